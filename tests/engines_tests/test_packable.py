"""What may be packed is what a class declares for itself; and a user's own declaration is enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trial_configs import MakeConfig

from harness.backbones.encoders import Encoder
from harness.config.execution import ENGINE_NAMES, Execution
from harness.config.trial import TrialConfig
from harness.engines.registry import ENGINES
from harness.training.resources import Resources

from .packs import PACKED, chosen, largest_difference, run_all, strategy

PLAIN = Execution()
OPTIONS: list[dict[str, Any]] = [
    {},
    {"share": 0.2, "dropped": 0.5},
    {"towards": "input"},
    {"towards": "input", "share": 0.9, "dropped": 0.3},
    {"share": 0.7},
]


def trial(make: MakeConfig, seed: int = 0, name: str = "Blend", **options: Any) -> TrialConfig:
    loop = {"epochs": 2, "batch_size": 8, "precision": "float64"}
    config = make(seed=seed, loop=loop, optim={"lr": 0.02})
    return with_adapter(config, adapter_strategy={"_target_": f"own_strategy.{name}", **options})


def with_adapter(config: TrialConfig, **changes: Any) -> TrialConfig:
    """The trial with other settings of its adapter; they replace the old ones whole."""
    return config.model_copy(update={"adapter": {**(config.adapter or {}), **changes}})


@pytest.mark.slow
def test_a_users_own_packed_form_is_used(make_config: MakeConfig, resources: Resources, tmp_path: Path) -> None:
    """Numbers that differ, noise, and variants that score differently, all in one pack: the plain loop to 1e-12."""
    configs = [trial(make_config, seed, **options) for seed, options in enumerate(OPTIONS)]
    assert {chosen(config, resources, PACKED) for config in configs} == {("packed", None)}
    plain = run_all(configs, resources, tmp_path / "plain", PLAIN, size=1)
    for ours, theirs in zip(run_all(configs, resources, tmp_path / "packed"), plain, strict=True):
        assert largest_difference(ours, theirs) < 1e-12


LINEAR = {"_target_": "harness.adapters.LinearAdapter", "dim": 4}
GATED = {"_target_": "harness.adapters.Gated", "start": 1.0, "adapter": LINEAR}
GAIN = {"_target_": "own_adapter.Gain"}


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        [{**GATED, "gate": "vector"}, {**GATED, "gate": "scalar"}],
        [{**GAIN, "each": True}, {**GAIN, "each": False}],  # whose form has no field for it
    ],
)
def test_rows_of_two_layouts_share_no_pack(
    options: list[dict[str, Any]], is_reversed: bool, make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """The row of one number would be read as that of a vector, which is 0 but for its first entry."""
    loop = {"epochs": 1, "batch_size": 8, "precision": "float64"}
    base = make_config(loop=loop, data={"train_limit": 16}, optim={"lr": 0.05, "warmup": 0.0})
    configs = [base.model_copy(update={"adapter": {**one, **strategy()}}) for one in options]
    if is_reversed:
        configs.reverse()
    assert {chosen(config, resources, PACKED) for config in configs} == {("packed", None)}
    plain = run_all(configs, resources, tmp_path / "plain", PLAIN, size=1)
    for ours, theirs in zip(run_all(configs, resources, tmp_path / "packed"), plain, strict=True):
        assert largest_difference(ours, theirs) < 1e-12


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"adapter_strategy": {"_target_": "own_strategy.Heir"}}, "strategy own_strategy.Heir has no packed form"),
        (
            {"adapter_strategy": {"_target_": "misbehaving.Misbehaving", "how": "wait"}},
            "strategy misbehaving.Misbehaving has no packed form",
        ),
        ({"_target_": "own_adapter.Wider"}, "adapter own_adapter.Wider has no packed form"),
        (
            strategy(stochastic_depth=0.5, noise="global"),
            "adapter.adapter_strategy: noise: global draws from torch's global generator, and a pack has one a trial",
        ),
        ({"dropout": 0.1}, "adapter.dropout draws from torch's global generator"),
        (
            {"_target_": "own_adapter.Counting"},
            "adapter own_adapter.Counting has the buffer seen, and a pack holds only weights that learn",
        ),
        (
            {"_target_": "own_adapter.HalfFrozen"},
            "adapter own_adapter.HalfFrozen does not train its weight module.1.weight, "
            "and a pack holds only weights that learn",
        ),
    ],
)
def test_what_is_not_declared_trains_behind_its_cut(
    change: dict[str, Any], why: str, make_config: MakeConfig, resources: Resources
) -> None:
    assert chosen(with_adapter(make_config(), **change), resources, PACKED) == ("cut", why)


@pytest.mark.parametrize(
    ("points", "why"),
    [
        (["after_attention", "out_proj", {"beside": "feed_forward"}], None),
        (
            "towards_head",
            "the shares of the layers on their way to the head are learnt, and a pack has no place for them",
        ),
    ],
)
def test_which_points_can_be_packed(
    points: Any, why: str | None, make_config: MakeConfig, resources: Resources
) -> None:
    engine = "packed" if why is None else "cut"
    assert chosen(make_config(backbone={"points": points}), resources, PACKED) == (engine, why)


def test_layers_that_learn_are_in_no_pack(make_config: MakeConfig, resources: Resources) -> None:
    config = make_config("head_only", train="layers_and_head", backbone={"layers": [1]})
    why = "layers of the backbone learn, and a pack shares those between its trials"
    assert chosen(config, resources, PACKED) == ("cut", why)


def test_a_layer_that_runs_several_times_is_not_packed(
    make_config: MakeConfig, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its adapters draw noise, and add their penalty, in each run."""
    monkeypatch.setattr(Encoder, "repeats_layers", True)
    engine, why = chosen(make_config(), resources, PACKED)
    assert engine == "cut" and why is not None and "several times" in why
    assert chosen(make_config("head_only"), resources, PACKED) == ("packed", None)


def test_an_adapter_with_state_trains_the_same_behind_its_cut(
    make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """Batch norm, an average of weights, counters and generators: the plain loop to 1e-12, best epoch included."""
    config = make_config(loop={"epochs": 2, "batch_size": 8, "precision": "float64"}, optim={"lr": 0.02})
    adapter = {"_target_": "stateful.Remembering", "dim": 4, "adapter_strategy": {"_target_": "stateful.Wandering"}}
    config = config.model_copy(update={"adapter": adapter})
    assert chosen(config, resources, PACKED)[0] == "cut"
    plain, cut = (run_all([config], resources, tmp_path / each.engine, each)[0] for each in (PLAIN, PACKED))
    assert any(name.startswith("best_other/") for name in plain.tensors)
    assert largest_difference(cut, plain) < 1e-12


def test_every_engine_has_its_name() -> None:
    """What a command may ask for is what there is."""
    assert tuple(ENGINES) == ENGINE_NAMES
