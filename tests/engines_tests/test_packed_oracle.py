"""The oracle of packed training: each trial is what it is alone, whatever trains beside it.

1. float64: a pack of eight mixed trials against the plain loop, 100 steps, to 1e-12: weights, moments, losses, scores.
2. float32: the same bits when the other slots are others, are poisoned, end, and are refilled.
3. The same bits with and without the cache, and through a checkpoint.
4. Faults that are planted break 1.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters_tests.registered import build, settings_of
from torch import Tensor
from trial_configs import MakeConfig

from harness.adapters import ADAPTERS, STRATEGIES, functional
from harness.adapters.packed import packed_adapter, packed_strategy
from harness.config.execution import Execution
from harness.config.trial import TrialConfig
from harness.engines.cut.prefix_cache import PrefixBudget
from harness.engines.packed import optimizer
from harness.engines.registry import Engines
from harness.instantiate import instantiate, to_plain
from harness.training.resources import Resources
from harness.training.trial import Trial

from .packs import (
    PACKED,
    Runs,
    assert_poisoned,
    assert_same_bits,
    chosen,
    largest_difference,
    poison,
    run_all,
    strategy,
)

pytestmark = pytest.mark.slow

PLAIN, CUT = Execution(), Execution(engine="cut")
LOOP: dict[str, Any] = {"epochs": 3, "batch_size": 8}


def adapters(make: MakeConfig, seed: int = 0, dim: int = 8, lr: float = 0.02, **more: Any) -> TrialConfig:
    """A trial with adapters in both layers; `more` are options of the strategy, and `loop`, `optim`, `backbone`."""
    changes = {name: more.pop(name) for name in ("loop", "optim", "backbone", "data", "train") if name in more}
    loop = {**LOOP, **changes.pop("loop", {})}
    optim = {"lr": lr, "warmup": 0.1, **changes.pop("optim", {})}
    plain = {"stochastic_depth": 0.0, "l2_lambda": 0.0}
    return make(seed=seed, adapter={"dim": dim, **strategy(**plain | more)}, loop=loop, optim=optim, **changes)


def mixed(make: MakeConfig, **loop: Any) -> list[TrialConfig]:
    """Eight trials that differ in everything that slots may differ in."""
    return [
        adapters(make, 0, loop=loop),
        adapters(make, 1, 5, 0.005, stochastic_depth=0.5, loop=loop),
        adapters(make, 2, 3, 0.03, l2_lambda=0.01, loop=loop),
        adapters(make, 3, 8, 0.01, stochastic_depth=0.3, l2_lambda=0.02, optim={"clip_norm": None}, loop=loop),
        adapters(make, 3, 8, 0.01, stochastic_depth=0.9, drop="row", optim={"clip_norm": 0.05}, loop=loop),
        adapters(make, 0, stochastic_depth=0.2, l2_lambda=1e-3, drop="frame", optim={"weight_decay": 0.3}, loop=loop),
        adapters(
            make, 5, l2_lambda=0.05, stochastic_depth=0.5, optim={"decay": "cosine"}, loop=loop,
            depth_schedule="linear", progress_schedule="linear",
        ),
        adapters(make, 6, stochastic_depth=0.4, l2_lambda=0.01, skip_dropped=True, loop={**loop, "batch_size": 7}),
    ]  # fmt: skip


def test_eight_mixed_trials_are_the_plain_loop(make_config: MakeConfig, resources: Resources, tmp_path: Path) -> None:
    """1e-12 relative after 100 steps: every weight, moment, loss and score."""
    configs = mixed(make_config, epochs=17, precision="float64", valid_limit=12)
    plain = run_all(configs, resources, tmp_path / "plain", PLAIN, size=1)
    packed = run_all(configs, resources, tmp_path / "packed")
    for config, found, expected in zip(configs, packed, plain, strict=True):
        assert len(expected.history) == 17 and config.loop.batch_size * 6 >= 42
        assert largest_difference(found, expected) < 1e-12
        assert found.outcome is not None and expected.outcome is not None
        assert found.outcome.valid == pytest.approx(expected.outcome.valid, rel=1e-12, abs=1e-12)
        assert found.outcome.metrics == pytest.approx(expected.outcome.metrics, rel=1e-12)  # the test scores too


CASES: dict[str, dict[str, Any]] = {
    "post norm": {"adapter": {"norm_position": "post"}},
    **{name: {"adapter": {"activation": name}} for name in ("identity", "hardtanh", "relu", "selu", "gelu")},
    "upper layer": {"backbone": {"layers": [1]}},
    "frames": {"loop": {"batch_size": 8, "max_frames": 40}},
    "head too": {"train": "adapters_and_head"},
    "valid frames": {"adapter": strategy(l2_lambda=0.02, l2_reduction="valid_frame_mean")},
    "valid elements": {"adapter": strategy(l2_lambda=0.05, l2_reduction="valid_element_mean")},
    "l2, relative": {"adapter": strategy(l2_lambda=0.5, l2_reduction="valid_frame_mean", l2_form="relative")},
    "l2, norm": {"adapter": strategy(stochastic_depth=0.3, l2_lambda=0.02, l2_form="norm", drop="frame")},
    "l2 of the output": {"adapter": strategy(stochastic_depth=0.5, l2_lambda=0.02, l2_target="adapter_output")},
    **{
        f"strategy {name}": {"adapter": {"adapter_strategy": to_plain(config())}}
        for name, config in STRATEGIES.items()
        if packed_strategy(instantiate(config())) is not None
    },
    "head alone": {"arm": "head_only"},
    "a layer and the head": {  # in no pack: cut
        "arm": "head_only",
        "train": "layers_and_head",
        "backbone": {"layers": [1]},
        "loop": {"epochs": 3},
    },
    "after attention": {"backbone": {"points": "after_attention", "layers": [1]}},
    "houlsby": {"backbone": {"points": "houlsby"}, "adapter": strategy(stochastic_depth=0.5, depth_schedule="linear")},
    "beside": {"backbone": {"points": ["out_proj", {"beside": "feed_forward"}]}},
    "parallel": {"backbone": {"points": [{"beside": "feed_forward.4", "reads": "feed_forward.1"}]}},
    "beside, l2": {
        "backbone": {"points": ["out_proj"]},
        "adapter": strategy(stochastic_depth=0.5, l2_lambda=0.02, l2_target="adapter_output"),
    },
    "l2_sp": {"train": "adapters_and_head", "loop": {"l2_sp": {"alpha": 0.1, "beta": 0.2}}},  # nor are these
    "global noise": {"adapter": {"dropout": 0.2, **strategy(stochastic_depth=0.5, noise="global")}},
    "kl on target": {"arm": "head_only", "loop": {"kl_to_base": {"weight": 0.5}}},
    "kl on source": {"backbone": {"layers": [1]}, "loop": {"kl_to_base": {"weight": 0.5, "examples": "source"}}},
    "towards the head": {"backbone": {"points": ["towards_head", "after_feed_forward"]}},  # in no pack: cut
}


@pytest.mark.parametrize("case", CASES)
def test_whatever_can_be_packed_is_the_plain_loop(
    case: str, make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """Every adapter, activation, strategy and way of training that can be packed; two seeds in a pack, and the cut."""
    changes = dict(CASES[case])
    arm = changes.pop("arm", "residual_add")
    changes["loop"] = {"epochs": 2, "batch_size": 8, "precision": "float64", **changes.get("loop", {})}
    changes["data"] = {"train_limit": 24}
    configs = [make_config(arm, seed=seed, **changes) for seed in (0, 1)]
    plain = run_all(configs, resources, tmp_path / "plain", PLAIN, size=1)
    for execution, name in ((PACKED, "packed"), (CUT, "cut")):
        found = run_all(configs, resources, tmp_path / name, execution)
        for ours, theirs in zip(found, plain, strict=True):
            assert ours.error is None
            assert largest_difference(ours, theirs) < 1e-12


PACKED_ADAPTERS = [name for name, config in ADAPTERS.items() if packed_adapter(build(config))]


@pytest.mark.parametrize("name", PACKED_ADAPTERS)
def test_every_adapter_that_can_be_packed_is_the_plain_loop(
    name: str, make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """At points of several widths: behind a layer, behind a projection to three widths, before a linear module."""
    adapter = {**settings_of(ADAPTERS[name]), **strategy(stochastic_depth=0.4, l2_lambda=0.02)}
    where = {"points": ["behind_layer", {"behind": "in_proj"}, {"before": "feed_forward.4"}]}
    loop = {"epochs": 2, "batch_size": 8, "precision": "float64"}
    configs = [
        make_config(seed=seed, loop=loop, backbone=where, data={"train_limit": 24}).model_copy(
            update={"adapter": adapter}
        )
        for seed in (0, 1)
    ]
    assert chosen(configs[0], resources, PACKED) == ("packed", None)
    plain = run_all(configs, resources, tmp_path / "plain", PLAIN, size=1)
    for ours, theirs in zip(run_all(configs, resources, tmp_path / "packed"), plain, strict=True):
        assert len({tensor.shape for name, tensor in theirs.tensors.items() if "adapter_layer" in name}) >= 3
        assert largest_difference(ours, theirs) < 1e-12


# --- float32: bits ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(make_config: MakeConfig, resources: Resources, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Two trials of a kind each as a pack of one, in float32."""
    configs = [mixed(make_config)[number] for number in (3, 4)]
    return configs, run_all(configs, resources, tmp_path_factory.mktemp("alone"), size=1)


@pytest.mark.parametrize("neighbours", ["none", "mixed", "swapped", "twins"])
def test_bits_do_not_depend_on_the_other_slots(
    neighbours: str, alone: Runs, make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """Other neighbours, other slots, another number of them: the same bits."""
    (first, second), (expected, other) = alone
    others = mixed(make_config)
    configs = {
        "none": [first],
        "mixed": [first, *others[:3], *others[4:]],
        "swapped": [*others[4:], second, *others[:3], first],
        "twins": [first] * 3,
    }[neighbours]
    found = run_all(configs, resources, tmp_path)
    assert_same_bits(found[configs.index(first)], expected)
    if second in configs:
        assert_same_bits(found[configs.index(second)], other)


def test_bits_inside_layers_do_not_depend_on_the_other_slots(
    make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """Points inside layers and beside linear modules, which work slot by slot in a pack."""
    where: dict[str, Any] = {"backbone": {"points": ["after_attention", "after_feed_forward", "out_proj"]}}
    configs = [adapters(make_config, seed, stochastic_depth=0.3, l2_lambda=0.01, **where) for seed in (0, 1, 2)]
    (expected,) = run_all(configs[:1], resources, tmp_path / "alone")
    together = run_all(configs[::-1], resources, tmp_path / "together")
    assert len([name for name in expected.tensors if "after_attention.0" in name]) > 0
    assert_same_bits(together[-1], expected)


def test_a_poisoned_slot_keeps_its_nan(
    alone: Runs, make_config: MakeConfig, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One slot's weights become NaN in the middle: it fails as it does alone, the others do not notice."""
    (first, _), (expected, _) = alone
    victim = adapters(make_config, 3, lr=0.5, l2_lambda=0.5)
    poison(victim, monkeypatch)
    found = run_all([victim, first, victim], resources, tmp_path)
    assert_same_bits(found[1], expected)
    assert_poisoned(found[0])


def test_slots_that_end_are_refilled(
    alone: Runs, make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """Seven trials through three slots, some shorter than others: whoever comes later has the same bits."""
    (first, second), (expected, other) = alone
    short = [
        adapters(make_config, seed, stochastic_depth=0.1, loop={"epochs": epochs}) for seed, epochs in ((7, 1), (8, 2))
    ]
    configs = [*short, first, *short, second, first]
    found = run_all(configs, resources, tmp_path, size=3)
    for number, wanted in ((2, expected), (5, other), (6, expected)):
        assert_same_bits(found[number], wanted)


@pytest.mark.parametrize("execution", [PACKED, CUT], ids=["packed", "cut"])
@pytest.mark.parametrize("budget", [{"keep": "nothing"}, {"keep": "files"}], ids=["off", "file"])
def test_bits_do_not_depend_on_the_cache(
    budget: dict[str, Any], execution: Execution, make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """In memory, in a mapped file (made, found, and found cut short or half deleted), or computed anew at each use."""
    configs = [mixed(make_config)[number] for number in (1, 3)] + [make_config("head_only", loop=LOOP)]
    memory = Engines(PrefixBudget(keep="memory"))
    expected = run_all(configs, resources, tmp_path / "memory", execution, engines=memory)
    for run in ("first", "second", "cut short", "deleted") if budget["keep"] == "files" else ("anew",):
        for file in (tmp_path / "rows").glob("*.rows"):
            if run == "cut short":
                os.truncate(file, file.stat().st_size // 3)
            elif run == "deleted":
                file.unlink()
        engines = Engines(PrefixBudget(folder=tmp_path / "rows", **budget))
        found = run_all(configs, resources, tmp_path / run, execution, engines=engines)
        for ours, theirs in zip(found, expected, strict=True):
            assert_same_bits(ours, theirs)
    assert bool(list((tmp_path / "rows").glob("*.rows"))) == (budget["keep"] == "files")


class _Killed(KeyboardInterrupt):
    """Stands for a kill: nothing takes it for a failure."""


@pytest.mark.parametrize(
    "killed_by, points",
    [("packed", "behind_layer"), ("plain", "behind_layer"), ("packed", "houlsby"), ("plain", "towards_head")],
)
def test_checkpoints_pass_between_pack_and_loop(
    killed_by: str, points: str, make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """Stopped after an epoch by one, taken up by the other, in float64: what an uninterrupted training gives."""
    loop = {"epochs": 4, "precision": "float64"}
    config = adapters(make_config, 3, 5, stochastic_depth=0.5, l2_lambda=0.02, loop=loop, backbone={"points": points})
    (whole,) = run_all([config], resources, tmp_path / "whole", PLAIN)
    first, then = (PACKED, PLAIN) if killed_by == "packed" else (PLAIN, PACKED)
    stop_after(config, resources, tmp_path / "0.safetensors", first, 2)
    (resumed,) = run_all([config], resources, tmp_path, then)
    assert [entry["epoch"] for entry in resumed.entries] == [1, 2, 3, 4]
    assert largest_difference(resumed, whole) < 1e-12


def test_a_pack_resumes_to_the_same_bits(
    alone: Runs, make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """Evicted after each epoch, saved, loaded beside other neighbours."""
    (first, _), (expected, _) = alone
    for num_epochs in (1, 2):
        stop_after(first, resources, tmp_path / "1.safetensors", PACKED, num_epochs)
    found = run_all([mixed(make_config)[0], first, mixed(make_config)[4]], resources, tmp_path)
    assert_same_bits(found[1], expected)


def stop_after(config: TrialConfig, resources: Resources, path: Path, execution: Execution, num_epochs: int) -> None:
    """Train until an epoch's end, and be stopped there."""

    def report(entry: dict[str, Any]) -> None:
        if entry["epoch"] == num_epochs:
            raise _Killed

    with pytest.raises(_Killed):
        Trial(config, resources, path, report, Engines().of(execution)).run()


def test_pruning_and_patience_are_each_trials_own(
    make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """One is pruned after an epoch, one runs out of patience, one goes to its end."""
    patient = adapters(make_config, 1, lr=1e-6, loop={"epochs": 6, "patience": 1, "precision": "float64"})
    to_end = adapters(make_config, 2, loop={"epochs": 3, "precision": "float64"})
    (expected, _) = run_all([patient, to_end], resources, tmp_path / "plain", PLAIN, size=1)
    assert len(expected.history) < 6
    found = run_all([patient, to_end], resources, tmp_path / "packed")
    assert [len(ran.history) for ran in found] == [len(expected.history), 3]
    trial = Trial(to_end, resources, None, lambda entry: entry["epoch"] == 2, Engines().of(PACKED))
    outcome = trial.run()
    assert outcome.pruned and outcome.epochs_run == 2
    shutil.rmtree(tmp_path / "packed")


# --- the oracle can fail ----------------------------------------------------------------------------------------------


def _faster(monkeypatch: pytest.MonkeyPatch) -> None:
    real = optimizer.RowStep.coefficients

    def faster(step: optimizer.RowStep) -> tuple[float, ...]:
        return real(dataclasses.replace(step, lr=step.lr * (1 + 2e-7)))

    monkeypatch.setattr(optimizer.RowStep, "coefficients", faster)


def _mean(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.autograd.grad

    def mean(total: Tensor, leaves: list[Tensor], **options: Any) -> tuple[Tensor, ...]:
        if options:  # the check of a new adapter, no step of a pack
            return real(total, leaves, **options)
        return tuple(gradient / len(leaves[0]) for gradient in real(total, leaves))

    monkeypatch.setattr(torch.autograd, "grad", mean)


def _global_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    def norm(gradients_KP: Tensor, dim: int, keepdim: bool) -> Tensor:
        return gradients_KP.square().sum().sqrt().expand(len(gradients_KP), 1)

    monkeypatch.setattr(torch.linalg, "vector_norm", norm)


def _swapped_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    real = functional.draw_packed_noise

    def swapped(shape: Any, keeps: Any, generators: list[torch.Generator], **options: Any) -> Tensor:
        return real(shape, keeps, generators[::-1], **options)

    monkeypatch.setattr(functional, "draw_packed_noise", swapped)


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a learning rate that is 2e-7 too large": _faster,
    "the mean of the trials' losses": _mean,
    "one norm for all trials": _global_norm,
    "swapped generators": _swapped_generators,
}


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_planted_faults_are_caught(
    fault: str | None, make_config: MakeConfig, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison of the first test, two trials and 12 steps: each fault is far outside of what it allows."""
    loop = {"epochs": 2, "precision": "float64"}
    configs = [
        adapters(make_config, 0, lr=lr, stochastic_depth=0.5, optim={"clip_norm": 0.05}, loop=loop)
        for lr in (0.02, 0.01)
    ]  # the same seed would hide swapped generators
    configs[1] = configs[1].model_copy(update={"seed": 1})
    plain = run_all(configs, resources, tmp_path / "plain", PLAIN, size=1)
    if fault is not None:
        FAULTS[fault](monkeypatch)
    packed = run_all(configs, resources, tmp_path / "packed")
    worst = max(largest_difference(found, expected) for found, expected in zip(packed, plain, strict=True))
    assert worst < 1e-12 if fault is None else worst > 1e-9
