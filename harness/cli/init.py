"""The command `harness init`: a small project of the user's own, from a template or for data of their own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UserError

TEMPLATE = Path(__file__).resolve().parents[1] / "templates" / "project"


def init(
    name: Annotated[Path, typer.Argument(help="The project's folder: a new or empty one.")] = Path("harness_project"),
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="With --data: options of the corpus, as columns={text: body}."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="A file or folder of your own data, or a corpus: write a recipe for it.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="With --data: the folder of a pretrained model of transformers.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="With --data: the domain to adapt to; the smallest one if not given.")
    ] = None,
) -> None:
    """Write a small commented project: an example, or for your data."""
    if data is None and (options or model or target):
        raise UserError("KEY=VALUE, --model and --target are about data of your own: give them with --data")
    if "=" in str(name) and not name.is_dir():
        raise UserError(f"{name}: expected the project's folder before KEY=VALUE, as in harness init my_project {name}")
    folder = shlex.quote(str(name))
    if name.is_file() or (name.is_dir() and any(name.iterdir())):
        raise UserError(
            f"{name}: exists already and is not an empty folder; harness init never overwrites, so choose another name"
        )
    if data is not None:
        from harness.cli.own_project import OwnProject, write_own_project
        from harness.config.experiment import parse_overrides

        project = OwnProject(data, dict(parse_overrides(options or [])), model, target)
        for path in write_own_project(name, project):
            print(f"wrote {path}")
        commands = "harness pretrain recipe.yaml && harness run experiment.yaml"
        print(f"\nNext: cd {folder}, look at the comments, then {commands}")
        return
    name.mkdir(parents=True, exist_ok=True)
    for path in sorted(TEMPLATE.glob("*.*")):
        (name / path.name).write_bytes(path.read_bytes())
        print(f"wrote {name / path.name}")
    print(f"\nNext: cd {folder}, then harness run experiment.yaml; README.md there has more commands.")
