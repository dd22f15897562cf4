"""The command `harness doctor`: what this machine has, a line each."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version

from harness import __version__
from harness.backbones.recipe import SHIPPED, backbone_directory, load_recipe
from harness.data.corpora.registry import CORPORA, is_fetched
from harness.records.provenance import PACKAGES, git_state
from harness.tracking.wandb_tracker import choose_mode


def doctor_command() -> None:
    """Print the report."""
    commit, dirty = git_state()
    code = f", commit {commit[:12]}{' with changes' if dirty else ''}" if commit else ""
    say("harness", f"{__version__}{code}")
    say("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    for name in (*PACKAGES, "pandas", "wandb"):
        say(name, _version(name))
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    say("GPU", gpu)
    from harness.data.audio_backend import describe_backend

    say("audio", describe_backend())
    say("W&B mode", choose_mode())
    for name, source in CORPORA.items():
        if source.fetch is not None:
            say(f"corpus {name}", "here" if is_fetched(name) else f"not here; run: harness data fetch {name}")
    for path in sorted(SHIPPED.glob("*.yaml")):
        recipe = load_recipe(path.stem)
        facts = backbone_directory(recipe) / "backbone.json"
        found = json.loads(facts.read_text(encoding="utf-8")) if facts.is_file() else None
        missing = f"no weights; run: harness pretrain {recipe.name}"
        state = f"fingerprint {found['fingerprint'][:12]}" if found else missing
        say(f"backbone {recipe.name}", f"{recipe.recipe_id}, {state}")


def say(what: str, finding: str) -> None:
    """One line of the report."""
    print(f"{what + ':':24} {finding}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
