"""What the tests of packed training share: trials run by an engine, with all that their last checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.backbones.recipe import load_recipe
from harness.config.execution import Execution
from harness.config.trial import TrialConfig
from harness.engines.packed import steps
from harness.engines.packed.pack import Pack
from harness.engines.packed.slot import Slot
from harness.engines.registry import Engines
from harness.errors import TrialError
from harness.training.checkpoint import load_checkpoint
from harness.training.pretrain import pretrain
from harness.training.resources import Resources
from harness.training.trial import Outcome, Trial

PACKED = Execution(engine="packed", pack=8)


@dataclass
class Ran:
    """A training: every tensor of its last checkpoint (weights, best weights, moments), every epoch's numbers."""

    tensors: dict[str, Tensor]
    history: list[dict[str, float]]
    outcome: Outcome | None = None
    error: BaseException | None = None
    entries: list[dict[str, Any]] = field(default_factory=list)


Runs = tuple[list[TrialConfig], list[Ran]]
"""Trials, and how each trained."""


def pretrained_with(data_cache: Path, recipe: Path) -> Path:
    """Pretrain a recipe for a fixture of a module, which lives longer than a test's own environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_DATA", str(data_cache))
        pretrain(load_recipe(str(recipe)), lambda entry: None)
    return recipe


def chosen(config: TrialConfig, resources: Resources, execution: Execution) -> tuple[str, str | None]:
    """The engine that trains a trial where another is asked for, and why not that one."""
    trial = Trial(config, resources)
    engine, why = Engines().of(execution).choose(config, trial.domains, trial.adapted().model)
    return engine.execution.engine, why


def strategy(**options: Any) -> dict[str, Any]:
    """An adapter's settings with residual add."""
    return {"adapter_strategy": {"_target_": "harness.adapters.ResidualAddAdapterStrategy", **options}}


def run_all(
    configs: Sequence[TrialConfig],
    resources: Resources,
    folder: Path,
    execution: Execution = PACKED,
    size: int | None = None,
    engines: Engines | None = None,
    grows: bool = False,
) -> list[Ran]:
    """Run trials by an engine, `size` of them at a time (all at once where it is None), each with a checkpoint."""
    folder.mkdir(exist_ok=True)
    size = size or len(configs)
    engines = engines or Engines()
    driver = engines.driver(size, grows)
    found: dict[int, Ran] = {number: Ran({}, []) for number in range(len(configs))}
    waiting, left = list(range(len(configs))), len(configs)
    while left:
        while waiting and driver.room:
            number = waiting.pop(0)
            path = folder / f"{number}.safetensors"
            trial = Trial(configs[number], resources, path, found[number].entries.append, engines.of(execution))
            driver.start(number, trial.steps())
        for done in driver.run():
            left -= 1
            ran = found[done.name]
            ran.outcome, ran.error = done.result, done.error
            path = folder / f"{done.name}.safetensors"
            if path.exists():
                checkpoint = load_checkpoint(path)
                ran.tensors = checkpoint.tensors
                ran.history = [entry["metrics"] for entry in checkpoint.values["state"]["history"]]
    return [found[number] for number in range(len(configs))]


def assert_same_bits(found: Ran, expected: Ran) -> None:
    """Every weight, moment and number is the same, to the bit."""
    assert found.tensors.keys() == expected.tensors.keys() and found.tensors
    different = [name for name, value in expected.tensors.items() if not torch.equal(found.tensors[name], value)]
    assert not different
    assert found.history == expected.history


def poison(victim: TrialConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a trial's weights become NaN before the third step of its second epoch."""
    real = steps.train_step

    def poisoned(pack: Pack, slots: Sequence[Slot]) -> Tensor:
        for slot in slots:
            if slot.fitting.config == victim and slot.fit.state.epoch == 1 and slot.position == 2:
                pack.rows_3RP[0, slot.row] = torch.nan
        return real(pack, slots)

    monkeypatch.setattr(steps, "train_step", poisoned)


def assert_poisoned(found: Ran) -> None:
    """It ended with the error that names that step, after one epoch."""
    assert isinstance(found.error, TrialError) and found.error.reason == "nan"
    assert str(found.error) == "the loss is nan at epoch 2, step 3"
    assert len(found.entries) == 1


def largest_difference(found: Ran, expected: Ran, least: float = 1e-30) -> float:
    """Largest difference of weights, moments and numbers, relative to the largest of each tensor.

    Args:
        least: weights that are all smaller are compared as if the largest were this one.
    """
    assert found.error is None and expected.error is None, (found.error, expected.error)
    assert found.tensors.keys() == expected.tensors.keys() and found.tensors
    worst = 0.0
    for name, value in expected.tensors.items():
        scale = max(float(value.abs().max()), 1e-30 if name.startswith("optimizer/") else least)
        worst = max(worst, float((found.tensors[name] - value).abs().max()) / scale)
    assert len(found.history) == len(expected.history)
    for ours, theirs in zip(found.history, expected.history, strict=True):
        worst = max(worst, _numbers_apart(ours, theirs))
    return worst


def _numbers_apart(ours: Mapping[str, float], theirs: Mapping[str, float]) -> float:
    assert ours.keys() == theirs.keys()
    return max(abs(ours[name] - theirs[name]) / max(abs(theirs[name]), 1.0) for name in theirs)
