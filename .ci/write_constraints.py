"""Write constraints.txt: the versions in this environment of all that `harness[dev,synthetic]` installs.

Run it with the environment's Python after an upgrade that passed `make test`:

    .venv/bin/python .ci/write_constraints.py
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("dev", "synthetic")
HEADER = """\
# The versions with which the tests passed (Python 3.11, Linux, CPU) of all that harness[dev,synthetic] installs.
#     pip install -c constraints.txt -e '.[dev,synthetic]'
#     uv pip install -c constraints.txt -e '.[dev,synthetic]'
# Not pinned: what a CUDA build of torch brings along. Written by .ci/write_constraints.py.
"""


def wanted() -> list[str]:
    """What pyproject.toml asks for: the package's own requirements, and those of the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"] + [text for extra in EXTRAS for text in project["optional-dependencies"][extra]]


def closure(requirements: Iterable[str], extras: Iterable[str], found: dict[str, str]) -> dict[str, str]:
    """The installed versions of these requirements and of theirs, by canonical name; `found` is added to."""
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            continue
        name = canonicalize_name(requirement.name)
        if name in found and not requirement.extras:
            continue
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"{text} is not installed in {sys.prefix}; run: make test") from None
        found[name] = installed.version.partition("+")[0]  # 2.13.0+cpu is a build of 2.13.0
        closure(installed.requires or [], requirement.extras, found)
    return found


def main() -> None:
    lines = [f"{name}=={version}\n" for name, version in sorted(closure(wanted(), (), {}).items())]
    (ROOT / "constraints.txt").write_text(HEADER + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
