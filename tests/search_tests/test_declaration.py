"""Overrides, settings and the less obvious mistakes of a sweep file (`test_wrong_sweeps.py` has one of each field)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from sweeps_by_hand import L2, LAMBDA, LR, NO_PRUNER, write_sweep
from tiny_text import TinyText

from harness.errors import UserError
from harness.search.declaration import Sweep
from harness.search.sweep_files import load_sweep

GRID = {"name": "grid"}
CMA = {"name": "cma_es"}
DECAY = {"type": "categorical", "choices": ["none", "linear"]}
DIM = {"type": "int", "low": 2, "high": 8, "step": 2, "arms": ["residual_add"]}


def sampler(name: str, **options: Any) -> dict[str, Any]:
    return {"sampler": {"name": name, "options": options}}


def pruner(name: str, **options: Any) -> dict[str, Any]:
    return {"pruner": {"name": name, "options": options}}


def wrapped(name: str) -> dict[str, Any]:
    return {"pruner": {"name": "patient", "options": {"patience": 1}, "wrapped": {"name": name}}}


# what is changed -> the line after the file's name, or parts of it
WRONG: dict[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
    "no type": ({"space": {"optim.lr": {"low": 1, "high": 2}}}, ("space.optim.lr.type: missing; choices: float, log",)),
    "unknown type": ({"space": {"optim.lr": {**LR, "type": "logfloat"}}}, ("lr.type: unknown", "Did you mean log_fl")),
    "unknown key of a parameter": ({"space": {"optim.lr": {**LR, "hgh": 1}}}, ("lr.hgh: unknown key", "mean high?")),
    "unknown key of an objective": ({"objectives": [{"metrc": "x", "metric": "y"}]}, ("objectives.0.metrc", "metric,")),
    "no bound": ({"space": {"optim.lr": {"type": "float", "high": 2}}}, ("space.optim.lr.low: missing",)),
    "no mapping": ({"space": {"optim.lr": 3}}, ("space.optim.lr: ", "got 3")),
    "zero share of 1": ({"space": {L2: {**LAMBDA, "zero_share": 1.0}}}, (f"space.{L2}.zero_share: ", "less than 1")),
    "integers wanted": ({"space": {"loop.batch_size": {"type": "float", "low": 2, "high": 7}}}, ("batch_size", "5.09")),
    "an arm that trains nothing": ({"space": {"optim.lr": {**LR, "arms": ["frozen"]}}}, ("arm frozen trains nothing",)),
    "an arm twice": ({"space": {"optim.lr": {**LR, "arms": ["head_only"] * 2}}}, ("space.optim.lr.arms", "arm twice")),
    "grid value twice": (
        {"sampler": GRID, "pruner": NO_PRUNER, "space": {"optim.lr": {**LR, "grid": [1e-3, 1e-3]}}},
        ("space.optim.lr.grid: ", "names a value twice"),
    ),
    "grid off its steps": ({"space": {"adapter.dim": {**DIM, "grid": [2, 3]}}}, ("space.adapter.dim: grid: 3 is not",)),
    "grids of two sizes": (
        {
            "sampler": GRID,
            "pruner": NO_PRUNER,
            "space": {"optim.lr": {**LR, "grid": [1e-3, 1e-2]}, L2: {**LAMBDA, "grid": [0, 1e-3]}},
        },
        ("budget: the grid of arm head_only has 2 points", "budgets are equal"),
    ),
    "grid and seconds": (
        {
            "sampler": GRID,
            "pruner": NO_PRUNER,
            "space": {"optim.lr": {**LR, "grid": [1e-3, 1e-2]}},
            "budget": {"seconds": 9},
        },
        ("budget: ", "9.0 seconds", "trials: 2"),
    ),
    "cma-es and a choice": (
        {"sampler": CMA, "space": {"optim.lr": LR, "optim.decay": DECAY}},
        ("sampler.name: cma_es searches numbers", "space.optim.decay", "choices: tpe, random"),
    ),
    "option of another type": (
        sampler("tpe", n_startup_trials="four"),
        ("options.n_startup_trials: 'four' is not of",),
    ),
    "option below its least": (
        sampler("tpe", n_ei_candidates=0),
        ("options.n_ei_candidates: 0 is below the least, 1",),
    ),
    "options that exclude": (sampler("tpe", group=True, multivariate=False), ("sampler.options: ", "group")),
    "gp's option": (sampler("gp", deterministic_objective=1), ("deterministic_objective: 1 is not of type bool",)),
    "cma-es's population": (sampler("cma_es", popsize=1), ("sampler.options.popsize: 1 is below",)),
    "an option on its way out": (sampler("cma_es", sigma0=0.1), ("no option 'sigma0'; choices: n_startup_trials",)),
    "the seed as an option": (sampler("random", seed=3), ("sampler.options: random has no option 'seed'",)),
    "pruner's option": (pruner("median", n_startup_trials="x"), ("pruner.options.n_startup_trials: 'x'",)),
    "hyperband's range": (
        pruner("hyperband", min_resource=5, max_resource=2),
        ("max_resource 2 is below min_resource",),
    ),
    "halving by one": (pruner("successive_halving", reduction_factor=1), ("pruner.options.reduction_factor: 1",)),
    "patience missing": (pruner("patient"), ("pruner.options.patience: missing",)),
    "median wraps": ({"pruner": {"wrapped": {"name": "median"}}}, ("pruner.wrapped: only patient",)),
    "patience with none": (wrapped("none"), ("pruner.wrapped.name: none never prunes",)),
    "patience over seeds": (wrapped("wilcoxon"), ("pruner.wrapped.name: wilcoxon compares seeds",)),
    "epochs searched over seeds": (
        {"space": {"loop.epochs": {"type": "int", "low": 2, "high": 4}}, "search": {"seeds": [1000, 1001]}},
        ("pruner.name: median", "searches loop.epochs", "one seed"),
    ),
    "no bound of a constraint": (
        {"constraints": [{"metric": "valid_forgetting"}]},
        ("constraints.0: give at_most or",),
    ),
    "unknown setting": (
        {"settings": {"loop.epoch": 3}},
        ("settings, arm frozen: loop.epoch: ", "Did you mean epochs?"),
    ),
    "a seed as a setting": ({"settings": {"seed": 3}}, ("settings.seed: seeds belong to",)),
    "baseline that is left out": ({"arms": ["residual_add"], "table": {"baseline": "frozen"}}, ("table.baseline: no",)),
    "no such experiment": ({"experiment": "nowhere.yaml"}, ("experiment: ", "nowhere.yaml", "No such file")),
    "direction": (
        {"objectives": [{"metric": "valid_forgetting", "direction": "up"}]},
        ("objectives.0.direction", "'up'"),
    ),
    "column": ({"table": {"metrics": ["f1"]}}, ("table.metrics: unknown metric 'f1'",)),
    "negative budget": ({"budget": {"seconds": -1}}, ("budget.seconds: ", "got -1")),
}


def load(files: TinyText, folder: Path, changes: Mapping[str, Any] = {}, overrides: Sequence[str] = ()) -> Sweep:
    return load_sweep(write_sweep(files.experiment, folder, changes), overrides)


def refused(files: TinyText, folder: Path, changes: Mapping[str, Any] = {}, overrides: Sequence[str] = ()) -> str:
    """The one line with which a sweep is refused."""
    with pytest.raises(UserError) as caught:
        load(files, folder, changes, overrides)
    message = str(caught.value).replace(f"{folder}/", "")
    assert "\n" not in message
    assert len(message) < 350, message
    return message


@pytest.mark.parametrize("what", WRONG)
def test_a_mistake_is_one_line_with_file_and_key(what: str, tiny_text_files: TinyText, tmp_path: Path) -> None:
    changes, parts = WRONG[what]
    message = refused(tiny_text_files, tmp_path, changes)
    assert message.startswith("sweep.yaml: ")
    assert [part for part in parts if part not in message] == [], message


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("budget", "expected key=value"),
        ("budget.trails=3", "budget.trails: unknown key 'trails'"),
        ("optim.lrr=1", "settings, arm frozen: optim.lrr: unknown key"),
        ("space.optim.lr.low=1", "space.optim.lr: low 1 must be below high 0.1"),
        ("space.optim.lr.arms=[full]", "space.optim.lr.arms: no arm 'full'"),
        ("budget=[", "budget=["),
        ("seed=3", "settings.seed"),
        ("settings=3", "settings: "),
        ("objectives.0.metric=x", "not a mapping"),
        ("arms=[]", "arms: "),
    ],
)
def test_a_wrong_override_is_one_line(override: str, part: str, tiny_text_files: TinyText, tmp_path: Path) -> None:
    assert part in refused(tiny_text_files, tmp_path, overrides=[override])


def test_a_wrong_experiment_is_named(tiny_text_files: TinyText, tmp_path: Path) -> None:
    path = write_sweep(tiny_text_files.experiment, tmp_path, {})
    tiny_text_files.write_experiment(tmp_path / "tiny_strategies.yaml", seeds=[0, 0])
    with pytest.raises(
        UserError, match=r"sweep.yaml: experiment: .*tiny_strategies.yaml: seeds: \[0, 0\] names a seed"
    ):
        load_sweep(path)


def test_allowed_on_purpose(tiny_text_files: TinyText, tmp_path: Path) -> None:
    """CMA-ES in one dimension, epochs that are searched (compared epoch by epoch), two bounds on one metric."""
    assert load(tiny_text_files, tmp_path, {"sampler": CMA}).searched
    assert load(tiny_text_files, tmp_path, {"space": {"loop.epochs": {"type": "int", "low": 2, "high": 4}}}).searched
    both = [{"metric": "valid_forgetting", "at_most": 0.1}, {"metric": "valid_forgetting", "at_least": -0.1}]
    assert len(load(tiny_text_files, tmp_path, {"constraints": both}).config.constraints) == 2


def test_an_override_changes_one_bound_and_the_name(tiny_text_files: TinyText, tmp_path: Path) -> None:
    plain = load(tiny_text_files, tmp_path)
    other = load(tiny_text_files, tmp_path, overrides=["space.optim.lr.high=0.5"])
    assert other.config.space["optim.lr"].model_dump()["high"] == 0.5
    assert other.name.startswith("by_hand-") and other.fingerprint != plain.fingerprint
    more = load(tiny_text_files, tmp_path, overrides=["budget.trials=9"])
    assert (more.name, more.fingerprint) == (plain.name, plain.fingerprint)
    assert load(tiny_text_files, tmp_path, overrides=["optim.lr=0.5", "name=mine"]).name == "mine"


def test_nested_settings_are_merged_and_dotted_ones_win(tiny_text_files: TinyText, tmp_path: Path) -> None:
    sweep = load(tiny_text_files, tmp_path, {"settings": {"loop": {"epochs": 5}, "adapter.dim": 6}})
    trials = {arm.name: sweep.trial(arm, {}, 0) for arm in sweep.arms}
    assert {(trial.loop.epochs, trial.loop.batch_size) for trial in trials.values()} == {(5, 4)}
    adapter = trials["residual_add"].adapter
    assert adapter is not None and adapter["dim"] == 6 and "adapter_strategy" in adapter
    assert trials["head_only"].adapter is None
    again = load(tiny_text_files, tmp_path, {"settings": {"loop": {"epochs": 5}}}, ["loop.epochs=7"])
    assert again.trial(again.arms[0], {}, 0).loop.epochs == 7


def test_a_trial_has_its_values_and_leaves_its_arm_alone(tiny_text_files: TinyText, tmp_path: Path) -> None:
    sweep = load(tiny_text_files, tmp_path, {"space": {"optim.lr": LR, L2: LAMBDA}})
    arm = sweep.arms[-1]
    trial = sweep.trial(arm, {"optim.lr": 0.003, L2: 0.0}, 1000)
    assert (trial.optim.lr, trial.seed) == (0.003, 1000)
    assert trial.adapter is not None and trial.adapter["adapter_strategy"]["l2_lambda"] == 0.0
    assert sweep.trial(arm, {}, 1000).trial_id != trial.trial_id
