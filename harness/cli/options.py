"""Arguments and options that several commands share, each declared once. Loads nothing but typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RESULTS = Path("results")

Results = Annotated[Path, typer.Option(help="Folder of results: one folder an experiment.")]
Name = Annotated[str, typer.Argument(help="An experiment or sweep that has been run, by its name.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change, as in optim.lr=3e-4 or budget.trials=50."),
]
Jobs = Annotated[int, typer.Option(min=1, help="Worker processes, one trial each at a time.")]
Wandb = Annotated[str, typer.Option(help="auto (online if logged in), offline, online, or off.")]
Engine = Annotated[str, typer.Option(help="plain (the reference loop), cut, packed, or auto (probes).")]
Pack = Annotated[int | None, typer.Option(min=1, help="Trials trained at once in a pack (the most, with auto).")]
Metrics = Annotated[str | None, typer.Option(help="Metrics to show, separated by commas.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Plain lines, no progress bars.")]


def split_list(text: str | None) -> list[str]:
    """The items of an option that takes a list separated by commas."""
    return [item.strip() for item in (text or "").split(",") if item.strip()]
