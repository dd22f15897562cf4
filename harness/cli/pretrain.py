"""The command `harness pretrain`."""

from __future__ import annotations

import json
from typing import Any

from harness.backbones.recipe import load_recipe


def pretrain_command(name: str, overwrite: bool, quiet: bool) -> None:
    """Train a backbone, a line an epoch, and say where it is."""
    recipe = load_recipe(name)
    from harness.training.pretrain import pretrain

    def report(entry: dict[str, Any]) -> None:
        numbers = ", ".join(
            f"{name} {value:.3f}" for name, value in entry["metrics"].items() if not name.startswith("valid_")
        )
        if not quiet:
            print(f"epoch {entry['epoch']}/{recipe.loop.epochs}: {numbers} ({entry['seconds']:.0f} s)", flush=True)

    directory = pretrain(recipe, report, overwrite)
    facts = json.loads((directory / "backbone.json").read_text(encoding="utf-8"))
    scores = ", ".join(f"{name} {value:.3f}" for name, value in facts["scores"].items() if name.startswith("valid/"))
    print(f"{recipe.name} ({recipe.recipe_id}): fingerprint {facts['fingerprint'][:12]}; {scores}")
    print(f"in {directory}")
