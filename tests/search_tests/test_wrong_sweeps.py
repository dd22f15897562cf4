"""Every wrong field of a sweep file is one clear line (file, key, choices), before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from sweeps_by_hand import L2, LAMBDA, LR, NO_PRUNER
from tiny_text import RunCli, TinyText

from harness.config.trees import merge
from harness.errors import UserError
from harness.search.sweep_files import load_sweep

ROOT = Path(__file__).resolve().parents[2]
DEPTH = "adapter.adapter_strategy.stochastic_depth"
GRID = {"name": "grid"}
CMA = {"name": "cma_es"}
DECAY = {"type": "categorical", "choices": ["none", "linear"]}
DIM = {"type": "int", "low": 2, "high": 8, "step": 2, "arms": ["residual_add"]}

RIGHT: dict[str, Any] = {
    "name": "tiny_sweep",
    "experiment": "tiny_strategies.yaml",
    "space": {
        "optim.lr": LR,
        L2: LAMBDA,
    },
    "objectives": [{"metric": "valid_target/macro_f1"}],
    "constraints": [{"metric": "valid_forgetting", "at_most": 0.03}],
    "sampler": {"name": "tpe"},
    "pruner": {"name": "median"},
    "budget": {"trials": 4},
    "search": {"seeds": [1000]},
    "race": {"candidates": 2, "seeds": [1001, 1011]},
    "confirm": {"seeds": [0, 1], "rules": ["best", "constrained", "one_se"]},
}

TWO = [{"metric": "valid_target/macro_f1"}, {"metric": "valid_forgetting"}]


def sampler(name: str, **options: Any) -> dict[str, Any]:
    return {"sampler": {"name": name, "options": options}}


def pruner(name: str, **options: Any) -> dict[str, Any]:
    return {"pruner": {"name": name, "options": options}}


def wrapped(name: str) -> dict[str, Any]:
    return {"pruner": {"name": "patient", "options": {"patience": 1}, "wrapped": {"name": name}}}


# what is changed -> parts of the line
WRONG: dict[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
    "no type": ({"space": {"optim.lr": {"low": 1, "high": 2}}}, ("space.optim.lr.type: missing; choices: float, log",)),
    "type mistyped": (
        {"space": {"optim.lr": {"tpye": "float", "low": 1, "high": 2}}},
        ("space.optim.lr.tpye: unknown key 'tpye'; choices: ", "Did you mean type?"),
    ),
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
            "confirm": {"rules": ["best"]},
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
    "options that exclude": (sampler("tpe", group=True, multivariate=False), ("sampler.options: ", "group")),
    "an option on its way out": (sampler("cma_es", sigma0=0.1), ("no option 'sigma0'; choices: n_startup_trials",)),
    "hyperband's range": (
        pruner("hyperband", min_resource=5, max_resource=2),
        ("max_resource 2 is below min_resource",),
    ),
    "patience missing": (pruner("patient"), ("pruner.options.patience: missing",)),
    "median wraps": ({"pruner": {"wrapped": {"name": "median"}}}, ("pruner.wrapped: only patient",)),
    "patience with none": (wrapped("none"), ("pruner.wrapped.name: none never prunes",)),
    "patience over seeds": (wrapped("wilcoxon"), ("pruner.wrapped.name: wilcoxon compares seeds",)),
    "epochs searched over seeds": (
        {"space": {"loop.epochs": {"type": "int", "low": 2, "high": 4}}, "search": {"seeds": [1000, 1002]}},
        ("pruner.name: median", "searches loop.epochs", "one seed"),
    ),
    "no bound of a constraint": (
        {"constraints": [{"metric": "valid_forgetting"}]},
        ("constraints.0: give at_most or",),
    ),
    "unknown setting of every trial": (
        {"settings": {"loop.epoch": 3}},
        ("settings, arm frozen: loop.epoch: ", "Did you mean epochs?"),
    ),
    "a seed as a setting": ({"settings": {"seed": 3}}, ("settings.seed: seeds belong to",)),
    "baseline that is left out": ({"arms": ["residual_add"], "table": {"baseline": "frozen"}}, ("table.baseline: no",)),
    "direction": (
        {"objectives": [{"metric": "valid_forgetting", "direction": "up"}]},
        ("objectives.0.direction", "'up'"),
    ),
    "column": ({"table": {"metrics": ["f1"]}}, ("table.metrics: unknown metric 'f1'",)),
    "unknown metric": (
        {"objectives": [{"metric": "valid_target/macro"}]},
        ("objectives.0.metric", "'valid_target/macro'", "choices: valid_target/macro_f1", "Did you mean"),
    ),
    "metric of the other family": ({"objectives": [{"metric": "valid_target/cer"}]}, ("'valid_target/cer'", "choices")),
    "test metric": ({"objectives": [{"metric": "target_macro_f1"}]}, ("target_macro_f1", "sealed", "choices")),
    "test metric in a constraint": (
        {"constraints": [{"metric": "forgetting", "at_most": 0.1}]},
        ("constraints.0.metric", "sealed"),
    ),
    "wrong direction": (
        {"objectives": [{"metric": "valid_target/macro_f1", "direction": "minimize"}]},
        ("objectives.0.direction", "minimize", "higher"),
    ),
    "no objective": ({"objectives": []}, ("objectives",)),
    "objective twice": ({"objectives": [TWO[0], TWO[0]]}, ("objectives", "twice")),
    "reversed bounds": (
        {"space": {"optim.lr": {**LR, "low": 1.0}}},
        ("space.optim.lr", "low 1 must be below high 0.1"),
    ),
    "equal bounds": ({"space": {"optim.lr": {**LR, "low": 0.1}}}, ("space.optim.lr", "must be below")),
    "log from zero": ({"space": {"optim.lr": {**LR, "low": 0}}}, ("space.optim.lr", "low", "greater than 0")),
    "unknown type": (
        {"space": {"optim.lr": {"type": "logfloat", "low": 1, "high": 2}}},
        ("space.optim.lr", "logfloat"),
    ),
    "unknown key of a parameter": ({"space": {"optim.lr": {**LR, "hihg": 1}}}, ("space.optim.lr", "hihg", "choices")),
    "unknown setting": ({"space": {"optim.lrr": LR}}, ("optim", "lrr", "Did you mean lr")),
    "bound that the setting refuses": (
        {"space": {"loop.epochs": {"type": "int", "low": 0, "high": 3}}},
        ("loop.epochs", "greater than 0"),
    ),
    "seed as a setting": ({"space": {"seed": {"type": "int", "low": 0, "high": 3}}}, ("space.seed", "replicates")),
    "one choice": ({"space": {"adapter.dim": {"type": "categorical", "choices": [4]}}}, ("adapter.dim", "choices")),
    "adapter setting of an arm without one": (
        {"space": {L2: {"type": "zero_or_log", "low": 1e-6, "high": 1e-2}}},
        (L2, "head_only has no adapter"),
    ),
    "setting of a fusion of an arm without one": (
        {"space": {"fusion.tau": {"type": "float", "low": 1.0, "high": 2.0}}},
        ("space.fusion.tau", "has no fusion"),
    ),
    "arm not in the experiment": (
        {"arms": ["frozen", "residual"]},
        ("arms", "'residual'", "Did you mean residual_add"),
    ),
    "arm twice": ({"arms": ["residual_add", "residual_add"]}, ("arms", "twice")),
    "parameter of an unknown arm": (
        {"space": {"optim.lr": {**LR, "arms": ["full"]}}},
        ("space.optim.lr.arms", "'full'", "choices"),
    ),
    "nothing searched": ({"space": {"optim.lr": {**LR, "arms": []}}}, ("space", "no arm searches anything")),
    "zero budget": ({"budget": {"trials": 0}}, ("budget.trials", "greater than 0")),
    "no budget": ({"budget": {}}, ("budget", "trials or seconds")),
    "two budgets": ({"budget": {"trials": 3, "seconds": 5}}, ("budget", "one of the two")),
    "unknown sampler": ({"sampler": {"name": "tpee"}}, ("sampler.name", "'tpee'", "choices: tpe", "Did you mean tpe")),
    "unknown option": (
        {"sampler": {"options": {"n_startup": 3}}},
        ("sampler.options", "n_startup", "n_startup_trials"),
    ),
    "cma-es with two objectives": (
        {"sampler": {"name": "cma_es"}, "objectives": TWO, "pruner": {"name": "none"}},
        ("cma_es", "one objective"),
    ),
    "unknown pruner": ({"pruner": {"name": "medium"}}, ("pruner.name", "'medium'", "Did you mean median")),
    "pruner with two objectives": ({"objectives": TWO}, ("pruner.name", "single objective")),
    "pruner without epochs": ({"settings": {"loop.epochs": 1}}, ("pruner.name", "between epochs", "trains for 1")),
    "wilcoxon without seeds": ({"pruner": {"name": "wilcoxon"}}, ("wilcoxon", "at least 3 search.seeds")),
    "pruner's value": ({"pruner": {"options": {"n_startup_trials": -1}}}, ("pruner.options", "-1")),
    "grid without values": ({"sampler": {"name": "grid"}, "pruner": {"name": "none"}}, ("grid", "grid: [...]")),
    "budget unlike the grid": (
        {
            "sampler": {"name": "grid"},
            "pruner": {"name": "none"},
            "space": {"optim.lr": {**LR, "grid": [1e-3, 1e-2]}},
            "confirm": {"rules": ["best"]},
        },
        ("budget", "has 2 points", "trials: 2"),
    ),
    "grid outside its bounds": (
        {"sampler": {"name": "grid"}, "space": {"optim.lr": {**LR, "grid": [1e-3, 1.0]}}},
        ("space.optim.lr", "grid", "1", "outside"),
    ),
    "seed of two phases": ({"confirm": {"seeds": [1000]}}, ("confirm.seeds", "1000", "search.seeds")),
    "seed twice": ({"confirm": {"seeds": [1, 1]}}, ("confirm.seeds", "seed 1", "twice")),
    "constrained without constraints": ({"constraints": []}, ("confirm.rules", "constrained needs constraints")),
    "constraint with two bounds": (
        {"constraints": [{"metric": "valid_forgetting", "at_most": 1, "at_least": 0}]},
        ("constraints.0", "one of the two"),
    ),
    "one_se without seeds": ({"race": {"seeds": []}}, ("one_se", "at least 2 seeds that judge", "1000 alone")),
    "one_se with one seed that judges": (
        {"race": {"seeds": [1001]}},
        ("one_se", "at least 2 seeds that judge", "1001 alone", "race.seeds"),
    ),
    "one_se with many seeds that do not judge": (
        {"search": {"seeds": [1000, 1003, 1004]}, "race": {"seeds": [1001]}},
        ("one_se", "1001 alone"),
    ),
    "one_se without a regulariser": ({"space": {"optim.lr": LR}}, ("one_se", "regulariser")),
    "unknown rule": ({"confirm": {"seeds": [0], "rules": ["bets"]}}, ("confirm.rules", "bets")),
    "unknown key": ({"samplers": {}}, ("unknown key 'samplers'", "Did you mean sampler")),
    "no experiment": ({"experiment": "nowhere.yaml"}, ("nowhere.yaml", "No such file")),
}


def write(files: TinyText, folder: Path, changes: Mapping[str, Any]) -> Path:
    """A sweep file with some things changed: a space replaces the right one, other mappings are merged."""
    experiment = files.experiment.read_text(encoding="utf-8")
    (folder / "tiny_strategies.yaml").write_text(experiment, encoding="utf-8")
    content = merge(RIGHT, {key: value for key, value in changes.items() if key not in ("space", "budget")})
    content |= {key: value for key, value in changes.items() if key in ("space", "budget")}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def test_the_right_one_loads(tiny_text_files: TinyText, tmp_path: Path) -> None:
    sweep = load_sweep(write(tiny_text_files, tmp_path, {}))
    assert [arm.name for arm in sweep.arms] == ["frozen", "head_only", "residual_add"]
    assert [arm.name for arm in sweep.searched] == ["head_only", "residual_add"]


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_field_is_one_line(what: str, tiny_text_files: TinyText, tmp_path: Path) -> None:
    changes, parts = WRONG[what]
    with pytest.raises(UserError) as caught:
        load_sweep(write(tiny_text_files, tmp_path, changes))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/sweep.yaml: ") and "\n" not in message
    assert len(message) < 450, message
    assert [part for part in parts if part not in message] == [], message


@pytest.mark.slow
def test_the_command_says_it_and_trains_nothing(tiny_text_files: TinyText, run_cli: RunCli, tmp_path: Path) -> None:
    path = write(tiny_text_files, tmp_path, {"budget": {"trials": 0}})
    done = run_cli("sweep", path, "--results", tmp_path / "r", env=tiny_text_files.env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_a_strategy_that_refuses_its_bound_is_found_before_training(
    tiny_text_files: TinyText, run_cli: RunCli, tmp_path: Path
) -> None:
    space = {DEPTH: {"type": "float", "low": 0.0, "high": 1.5, "arms": ["residual_add"]}}
    path = write(tiny_text_files, tmp_path, {"space": space, "confirm": {"rules": ["best"]}})
    done = run_cli("sweep", path, "--results", tmp_path / "r", env=tiny_text_files.env)
    assert done.returncode == 2
    assert "arm residual_add" in done.stderr and "between 0 and 1, but got 1.5" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list((tmp_path / "r").glob("*/search/*"))


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").rglob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_sweeps_load(path: Path) -> None:
    sweep = load_sweep(path)
    assert sweep.name == path.stem
    assert sweep.searched
