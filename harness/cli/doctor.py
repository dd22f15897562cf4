"""The command `harness doctor`: what this machine has, a line each."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version


def doctor() -> None:
    """Say what this machine has.

    It lists packages, GPU, torchaudio's backend, W&B's mode, what each launcher needs, corpora and backbones.
    """
    for what, finding in findings():
        print(f"{what + ':':24} {finding}", flush=True)


def findings() -> Iterator[tuple[str, str]]:
    """Look at one thing after the other, and yield its name and what was found."""
    from harness import __version__
    from harness.backbones.fetched import MODELS, is_fetched_model
    from harness.backbones.recipe import SHIPPED, backbone_directory, load_recipe
    from harness.config.shipped import load_tested_versions
    from harness.data.corpora.registry import CORPORA, is_fetched
    from harness.launch.launchers import LAUNCHERS, launcher_type
    from harness.records.provenance import PACKAGES, git_state
    from harness.tracking.client import choose_mode

    commit, dirty = git_state()
    code = f", commit {commit[:12]}{' with uncommitted changes' if dirty else ''}" if commit else ""
    yield "harness", f"{__version__}{code}"
    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    tested = load_tested_versions()
    for name in (*PACKAGES, "optuna", "pandas", "wandb"):
        yield name, package_version(name, tested.get(name))
    import torch

    yield "GPU", torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    from harness.data.audio_backend import describe_backend

    yield "audio", describe_backend()
    yield "W&B mode", choose_mode()
    for name in LAUNCHERS:
        yield f"launcher {name}", launcher_type(name).needs() or "ready"
    for name, source in CORPORA.items():
        if source.fetch is not None:
            yield f"corpus {name}", "here" if is_fetched(name) else f"not here; run: harness data fetch {name}"
    for name in MODELS:
        yield f"model {name}", "here" if is_fetched_model(name) else f"not here; run: harness data fetch {name}"
    for path in sorted(SHIPPED.glob("*.yaml")):
        recipe = load_recipe(path.stem)
        facts = backbone_directory(recipe) / "backbone.json"
        found = json.loads(facts.read_text(encoding="utf-8")) if facts.is_file() else None
        missing = f"no weights; run: harness pretrain {recipe.name}"
        if recipe.train == "none":
            missing = "a pretrained model as it is"
        state = f"fingerprint {found['fingerprint'][:12]}" if found else missing
        yield f"backbone {recipe.name}", f"{recipe.recipe_id}, {state}"


def package_version(name: str, tested: str | None) -> str:
    """The installed version of a package, and the tested version where that is another one."""
    try:
        found = version(name)
    except PackageNotFoundError:
        found = "not installed"
    # The part behind + names a build of the same version, as in 2.13.0+cpu.
    return found if tested in (None, found.partition("+")[0]) else f"{found} (the tests passed with {tested})"
