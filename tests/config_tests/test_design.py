"""Designs: a few lines of an experiment file that stand for many arms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.config.design import AddOne, Factorial, ForEach, LeaveOneOut, describe_design, design_arms
from harness.config.experiment import load_experiment
from harness.config.trees import get_dotted
from harness.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
P, L2 = "adapter.adapter_strategy.stochastic_depth", "adapter.adapter_strategy.l2_lambda"
COMPONENTS = {"depth": {P: 0.5}, "l2": {L2: 1e-3}, "wide": {"adapter.dim": 64}}
FACTORS = {"p": {"key": P, "levels": [0.0, 0.5]}, "dim": {"key": "adapter.dim", "levels": [16, 32, 64]}}


def load(folder: Path, *overrides: str, **changes: Any) -> Any:
    """The text ablation with some parts changed."""
    content = yaml.safe_load((ROOT / "experiments" / "text_strategies.yaml").read_text(encoding="utf-8"))
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False), encoding="utf-8")
    return load_experiment(path, overrides)


def settings(experiment: Any, key: str) -> dict[str, Any]:
    return {trial.arm: get_dotted(trial.config.model_dump(), key) for trial in experiment.trials}


def test_leave_one_out(tmp_path: Path) -> None:
    experiment = load(tmp_path, arms={}, design={"type": "leave_one_out", "components": COMPONENTS}, table={})
    assert list(experiment.config.arms) == ["full", "full - depth", "full - l2", "full - wide"]
    assert settings(experiment, P) == {"full": 0.5, "full - depth": 0.0, "full - l2": 0.5, "full - wide": 0.5}
    assert settings(experiment, "adapter.dim") == {"full": 64, "full - depth": 64, "full - l2": 64, "full - wide": 32}


@pytest.mark.parametrize(
    ("cumulative", "arms", "l2"),
    [
        (False, ["base", "base + depth", "base + l2", "base + wide"], [0.0, 0.0, 1e-3, 0.0]),
        (True, ["base", "base + depth", "base + depth + l2", "base + depth + l2 + wide"], [0.0, 0.0, 1e-3, 1e-3]),
    ],
)
def test_add_one(tmp_path: Path, cumulative: bool, arms: list[str], l2: list[float]) -> None:
    design = {"type": "add_one", "components": COMPONENTS, "cumulative": cumulative}
    experiment = load(tmp_path, arms={}, design=design, table={})
    assert list(experiment.config.arms) == arms
    assert list(settings(experiment, L2).values()) == l2


def test_factorial_beside_the_files_own_arms(tmp_path: Path) -> None:
    frozen = {"frozen": {"train": "none", "adapter": None}}
    experiment = load(tmp_path, arms=frozen, design={"type": "factorial", "factors": FACTORS})
    names = [f"p={p}, dim={dim}" for p in ("0", "0.5") for dim in (16, 32, 64)]
    assert list(experiment.config.arms) == ["frozen", *names]
    assert settings(experiment, "adapter.dim")["p=0.5, dim=64"] == 64
    assert len(experiment.trials) == 7 * 5


def test_a_design_can_start_from_an_arm(tmp_path: Path) -> None:
    arms = {"wide": {"adapter": {"dim": 128}}}
    design = {"type": "factorial", "arm": "wide", "factors": FACTORS | {"dim": {"key": L2, "levels": [0, 1e-3]}}}
    experiment = load(tmp_path, arms=arms, design=design, table={})
    assert set(settings(experiment, "adapter.dim").values()) == {128}


def test_overrides_reach_the_designs_arms(tmp_path: Path) -> None:
    design = {"type": "factorial", "factors": FACTORS}
    plain = load(tmp_path, arms={}, design=design, table={})
    assert plain.name == "text_strategies"
    changed = load(tmp_path, "optim.lr=5e-4", "design.factors.p.levels=[0.0, 0.9]", arms={}, design=design, table={})
    assert set(settings(changed, "optim.lr").values()) == {5e-4}
    assert set(settings(changed, P).values()) == {0.0, 0.9}
    assert changed.name.startswith("text_strategies-")


LINEAR = {"_target_": "harness.adapters.LinearAdapter", "dim": 8}
EACH: dict[str, Any] = {
    "type": "for_each",
    "over": {"size": [10, 20], "target": ["tweets", "news"]},
    "arms": {
        "adapter": {
            "data": {"target": "{target}", "train_limit": "{size}"},
            "adapter": None,
            "adapters": {"news": LINEAR, "{target}": {**LINEAR, "dim": "{size}"}},
        },
        "tuned": {
            "data": {"target": "{target}", "train_limit": "{size}"},
            "adapter": None,
            "adapters": {"{target}": {"from": {"arm": "adapter, {size}, {target}"}, "trainable": True}},
        },
    },
}


def test_for_each(tmp_path: Path) -> None:
    experiment = load(tmp_path, arms={"own": {}}, design=EACH, table={"baseline": "adapter", "rows": ["target"]})
    names = [f"{arm}, {size}, {target}" for size in (10, 20) for target in ("tweets", "news") for arm in EACH["arms"]]
    assert list(experiment.config.arms) == ["own", *names]
    assert settings(experiment, "data.train_limit")["tuned, 20, news"] == 20  # a number, as the value is
    assert settings(experiment, "data.target")["adapter, 10, tweets"] == "tweets"
    trials = {(trial.arm, trial.seed): trial.config for trial in experiment.trials}
    assert list(trials["adapter, 10, tweets", 0].adapters or {}) == ["news", "tweets"]
    own = get_dotted(trials["adapter, 20, news", 0].model_dump(), "adapters.news.dim")
    assert own == 20  # filled in, the key is there twice: the later counts
    assert trials["tuned, 20, news", 1].needs == (trials["adapter, 20, news", 1].trial_id,)
    (note,) = experiment.notes
    assert note.text.startswith("tuned: time, memory and trained weights are those of the last training alone")


@pytest.mark.parametrize(
    ("design", "message"),
    [
        ({"type": "factorial", "factors": {"p": FACTORS["p"]}}, "design.factors: Dictionary should have at least 2"),
        ({"type": "factorial", "factors": FACTORS | {"q": FACTORS["p"]}}, "names a setting twice"),
        ({"type": "factorial", "factors": FACTORS | {"q": {"key": L2, "levels": [0, 0.0]}}}, "names a level twice"),
        ({"type": "factorial", "arm": "nobody", "factors": FACTORS}, "no arm 'nobody'; choices: residual_add"),
        ({"type": "factorial", "factors": FACTORS | {"q": {"key": "adapter.dims", "levels": [1, 2]}}}, None),
        ({"type": "add_one", "components": {"a": {}, "b": {P: 0.5}}}, "component 'a' sets nothing"),
        (
            {"type": "add_one", "components": {"a": {P: 0.0}, "b": {P: 0.5}}},
            "'base' and 'base + a' are the same trials",
        ),
        ({"type": "add_two", "components": COMPONENTS}, "choices: leave_one_out, add_one, factorial, for_each"),
        (EACH | {"arms": {"a": {"data": {"target": "{tagret}"}}}}, "design.arms.a.data.target: {tagret} is not among"),
        (EACH | {"over": {"size": [10, 10]}}, "over.size: [10, 10] has no value, or one twice"),
        (EACH | {"over": {"arm": [1, 2]}}, "over: 'arm' means something else in a table"),
        (EACH | {"over": {"n": [*range(501)]}}, "it makes 1002 arms, but at most 1000"),
        (EACH | {"arms": {"a": {}}}, "'a, 10, tweets' and 'a, 10, news' are the same trials"),
    ],
)
def test_wrong_designs_are_one_line(tmp_path: Path, design: dict[str, Any], message: str | None) -> None:
    if message is None:  # an adapter's own arguments are checked when it is built
        load(tmp_path, arms={"residual_add": {}}, design=design, table={})
        return
    with pytest.raises(UserError) as caught:
        load(tmp_path, arms={"residual_add": {}}, design=design, table={})
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_arm_of_the_design_is_no_other_arm(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"design: .* arm 'full'"):
        load(tmp_path, arms={"full": {}}, design={"type": "leave_one_out", "components": COMPONENTS}, table={})


def test_the_baseline_may_be_an_arm_of_the_design(tmp_path: Path) -> None:
    design = {"type": "leave_one_out", "components": COMPONENTS}
    assert load(tmp_path, arms={}, design=design, table={"baseline": "full"}).config.table.baseline == "full"
    with pytest.raises(UserError, match="no arm 'ful'; choices: full, full - depth"):
        load(tmp_path, arms={}, design=design, table={"baseline": "ful"})


def test_what_the_manifest_keeps() -> None:
    factorial = describe_design(Factorial.model_validate({"type": "factorial", "factors": FACTORS}))
    assert factorial["factors"] == {"p": [0.0, 0.5], "dim": [16, 32, 64]}
    assert factorial["arms"]["p=0.5, dim=16"] == {"p": 0.5, "dim": 16}
    left_out = describe_design(LeaveOneOut.model_validate({"type": "leave_one_out", "components": COMPONENTS}))
    assert left_out["arms"]["full - l2"] == {"depth": True, "l2": False, "wide": True}
    each = describe_design(ForEach.model_validate(EACH))
    assert each["factors"] == {"method": ["adapter", "tuned"], "size": [10, 20], "target": ["tweets", "news"]}
    assert each["arms"]["tuned, 10, news"] == {"method": "tuned", "size": 10, "target": "news"}
    added = design_arms(AddOne.model_validate({"type": "add_one", "components": COMPONENTS}))
    assert [dict(arm.settings) for arm in added] == [{}, *COMPONENTS.values()]
