"""The command `harness init`: a small project of the user's own, from the template in harness/templates/project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UserError

TEMPLATE = Path(__file__).resolve().parents[1] / "templates" / "project"


def init(
    name: Annotated[Path, typer.Argument(help="The project's folder: a new or empty one.")] = Path("harness_project"),
) -> None:
    """Write a small commented project that runs. It has an experiment, a sweep, a strategy and a few sentences."""
    if name.is_file() or (name.is_dir() and any(name.iterdir())):
        raise UserError(
            f"{name}: exists already and is not an empty folder; harness init never overwrites, so choose another name"
        )
    name.mkdir(parents=True, exist_ok=True)
    for path in sorted(TEMPLATE.glob("*.*")):
        (name / path.name).write_bytes(path.read_bytes())
        print(f"wrote {name / path.name}")
    print(f"\nNext: cd {name}, then harness run experiment.yaml; README.md there has more commands.")
