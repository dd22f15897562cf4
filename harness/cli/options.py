"""Arguments and options that several commands share, each declared once. Loads nothing but typer and lists of names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.errors import refuse_twice
from harness.launch.launchers import LAUNCHERS
from harness.tracking.trackers import TRACKERS

if TYPE_CHECKING:
    from harness.config.shipped import Kind

RESULTS = Path("results")


def file_argument(*kinds: Kind) -> Any:
    """An argument that takes a path or a shipped name. Where no name fits, the shell goes on completing paths."""

    def complete(incomplete: str) -> list[str]:
        from harness.config.shipped import shipped_files

        return [name for name in shipped_files(*kinds) if name.startswith(incomplete)]

    text = f"{' or '.join(kinds).capitalize()} file (YAML), or the name of one that comes with harness."
    return typer.Argument(help=text, autocompletion=complete)


def name_argument(help: str, metavar: str | None = None) -> Any:
    """An argument that takes the name of an experiment or sweep that has been run."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        folders = Path(ctx.params.get("results") or RESULTS).glob(f"{incomplete}*/")
        return sorted(folder.name for folder in folders if folder.is_dir())

    return typer.Argument(help=help, metavar=metavar, autocompletion=complete)


Results = Annotated[Path, typer.Option(help="Folder of results, with a folder for each experiment.")]
Name = Annotated[str, name_argument("An experiment or sweep that has been run, by its name.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings to change, as in optim.lr=3e-4 or budget.trials=50."),
]
Jobs = Annotated[int, typer.Option(min=1, help="Worker processes; each trains one trial at a time.")]
Track = Annotated[str | None, typer.Option(help=f"Where trials are shown: {', '.join(TRACKERS)}; wandb if left out.")]
Wandb = Annotated[str, typer.Option(help="How W&B is used: auto (online if logged in), offline, online, or off.")]
LauncherName = Annotated[
    str | None,
    typer.Option(
        "--launcher", help=f"Where the trials run: {', '.join(LAUNCHERS)}. If left out, the file decides, or --jobs."
    ),
]


def engine_option(default: str = "") -> Any:
    """How trials are trained."""
    choices = (
        "plain (the reference loop), cut (frozen layers run once), packed (several trials in one step), or auto "
        "(the fastest that can train a trial)"
    )
    return typer.Option(help=f"How trials are trained: {choices}{default and f'; {default}'}.")


Engine = Annotated[str, engine_option()]
Pack = Annotated[int | None, typer.Option(min=1, help="The most trials in one step, with --engine packed or auto.")]
Capture = Annotated[
    bool,
    typer.Option("--capture", help="On a GPU, replay the steps of packs as CUDA graphs; this has never run on one."),
]
Metrics = Annotated[str | None, typer.Option(help="Metrics to show, separated by commas.")]
RetryFailed = Annotated[bool, typer.Option(help="Also train again what failed for good: with a NaN, or too often.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Plain lines, no progress bars.")]


def split_list(text: str | None, option: str) -> list[str]:
    """The items of an option that takes a list separated by commas.

    Raises:
        UserError: an item is named twice.
    """
    items = [item.strip() for item in (text or "").split(",") if item.strip()]
    refuse_twice(items, option)
    return items
