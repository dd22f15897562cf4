"""What comes with the project and lies outside the package: experiments, sweeps, tables and schemas, by name.

In a checkout they lie at the repository's top level; a wheel has copies of them in harness/shipped (see setup.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from harness.errors import must_be_in

Kind = Literal["experiment", "sweep", "table"]
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
    files = [path for kind in kinds for path in sorted((shipped_folder() / f"{kind}s").glob("*.yaml"))]
    return {path.stem: path.relative_to(here) if path.is_relative_to(here) else path for path in files}


def find_file(name: Path | str, *kinds: Kind) -> Path:
    """The file that a user means: a path as it is, or the name of a file that comes with the project.

    A path has a folder or a suffix in it, or leads to a file.

    Raises:
        UserError: no file of these kinds has the name; one line with the choices.
    """
    path = Path(name)
    if path.suffix or len(path.parts) > 1 or path.is_file():
        return path
    choices = shipped_files(*kinds)
    must_be_in(
        str(name), choices, f"no {' or '.join(kinds)} {str(name)!r} comes with harness, and no such file is here"
    )
    return choices[str(name)]
