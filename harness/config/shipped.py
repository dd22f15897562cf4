"""What comes with the project and lies outside the package: experiments, sweeps, tables and schemas, by name.

In a checkout they lie at the repository's top level; a wheel has copies of them in harness/shipped (see setup.py).
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal, get_args

from harness.config.kinds import WHAT, named
from harness.errors import UserError, must_be_in

Kind = Literal["experiment", "sweep", "table"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder() -> Path:
    """The folder that has experiments/, sweeps/, tables/ and schemas/."""
    copies = PACKAGE / "shipped"
    return copies if copies.is_dir() else PACKAGE.parent


def load_tested_versions() -> dict[str, str]:
    """Package -> the version with which the tests passed."""
    lines = (shipped_folder() / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = (line.partition("==") for line in lines if not line.startswith("#"))
    return {name: version for name, separator, version in pins if separator}


def shipped_files(*kinds: Kind) -> dict[str, Path]:
    """Name -> file of what comes with the project; relative to the current folder if it lies in there."""
    here = Path.cwd()
    files = [path for kind in kinds for path in sorted((shipped_folder() / f"{kind}s").rglob("*.yaml"))]
    return {path.stem: path.relative_to(here) if path.is_relative_to(here) else path for path in files}


def find_file(name: Path | str, *kinds: Kind) -> Path:
    """The file that a user means: a path as it is, or the name of a file that comes with the project.

    A path has a folder or a suffix in it, or leads to a file.

    Raises:
        UserError: there is no such file, no file of these kinds has the name, or it is a folder; one line that says
            what there is.
    """
    path = Path(name)
    if path.is_file():
        return path
    choices = shipped_files(*kinds)
    if str(name) in choices:
        return choices[str(name)]
    if path.is_dir():
        raise UserError(f"{path}: expected {named(kinds)}, which is a file, but this is {_what_is_in(path)}")
    for kind in KINDS:
        if str(name) in shipped_files(kind):
            raise UserError(f"{name}: expected {named(kinds)}, but this is {WHAT[kind]}")
    if path.suffix or len(path.parts) > 1:
        if path.exists():
            return path  # a pipe, say
        stems = {Path(name).stem: name for name in _settings_files(path.parent)}
        near = difflib.get_close_matches(path.stem, stems, n=1)
        hint = f". Did you mean {path.with_name(stems[near[0]])}?" if near else ""
        raise UserError(f"{path}: cannot be read: No such file or directory{hint}")
    beside = [*choices, *_settings_files(path.parent)]
    missing = f"no {' or '.join(kinds)} {str(name)!r} comes with harness, and no such file is here"
    must_be_in(str(name), beside, missing)
    return path


def _settings_files(folder: Path) -> list[str]:
    return sorted(file.name for pattern in ("*.yaml", "*.yml") for file in folder.glob(pattern))


def _what_is_in(folder: Path) -> str:
    """What a folder is, and what its user may have meant."""
    if any((folder / name).is_file() for name in ("experiment.json", "search.json")):
        return f"a folder of results; table, report, verify, status and publish take its name: {folder.name}"
    files = _settings_files(folder)
    return f"a folder; the settings files in it: {', '.join(files)}" if files else "a folder without a settings file"
