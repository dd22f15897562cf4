"""The command `harness pretrain`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from harness.cli.options import Quiet
from harness.cli.run import tell_data


def pretrain(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name, or a recipe file.")],
    overwrite: Annotated[bool, typer.Option(help="Train again although the weights are there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a backbone on its source domains. A backbone that has its weights is not trained again."""
    from harness.backbones.recipe import load_recipe

    loaded = load_recipe(recipe)
    from harness.training.pretrain import pretrain

    def report(entry: dict[str, Any]) -> None:
        numbers = ", ".join(
            f"{name} {value:.3f}" for name, value in entry["metrics"].items() if not name.startswith("valid_")
        )
        if not quiet:
            print(f"epoch {entry['epoch']}/{loaded.loop.epochs}: {numbers} ({entry['seconds']:.0f} s)", flush=True)

    directory = pretrain(loaded, report, overwrite, lambda told: tell_data(told.lines(quiet)), recipe)
    facts = json.loads((directory / "backbone.json").read_text(encoding="utf-8"))
    scores = ", ".join(f"{name} {value:.3f}" for name, value in facts["scores"].items() if name.startswith("valid/"))
    print(f"{loaded.name} ({loaded.recipe_id}): fingerprint {facts['fingerprint'][:12]}; {scores}")
    for note in facts.get("notes", ()):
        print(f"data: {note}")
    print(f"weights in {directory}")
