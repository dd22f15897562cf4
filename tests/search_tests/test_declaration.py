"""Overrides and settings of a sweep file; `test_wrong_sweeps.py` has a mistake of each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from sweeps_by_hand import L2, LAMBDA, LR, write_sweep
from tiny_text import TinyText

from harness.config.base import content_hash
from harness.config.experiment import give_own_name
from harness.errors import UserError
from harness.search.declaration import Sweep
from harness.search.sweep_files import KEEPS_NAME, load_sweep

CMA = {"name": "cma_es"}


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


def test_a_name_depends_on_what_is_changed_alone(tiny_text_files: TinyText, tmp_path: Path) -> None:
    def name(*overrides: str) -> str:
        return load(tiny_text_files, tmp_path, overrides=overrides).name

    own = name("optim.eps=0.5")
    assert own.startswith("by_hand-")
    for budget in ("budget.trials=3", "budget.trials=4", "launcher=processes"):
        assert name("optim.eps=0.5", budget) == name(budget, "optim.eps=0.5") == own
        assert name(budget) == "by_hand"
    assert name("optim.eps=0.5", "name=mine") == name("name=mine", "optim.eps=0.5") == "mine"
    seeds = load(tiny_text_files, tmp_path).config.confirm.seeds
    assert name(f"confirm.seeds={list(seeds)}") == "by_hand"  # as in the file
    assert name(f"confirm.seeds={[*seeds, 77]}") != "by_hand"


def test_the_hash_in_a_name_is_that_of_the_whole_file() -> None:
    """As it always was: another name would train everything again."""
    file = {"name": "s", "budget": {"trials": 3}, "launcher": "shell", "settings": {}}
    changed = {**file, "budget": {"trials": 4}, "launcher": "slurm", "settings": {"loop.epochs": 2}}
    whole = {"name": "s", "budget": {"trials": 3}, "settings": {"loop.epochs": 2}}
    give_own_name(changed, file, [("loop.epochs", 2), ("budget.trials", 4)], KEEPS_NAME)
    assert changed["name"] == f"s-{content_hash(whole, 6)}"


def test_an_override_changes_one_bound_and_the_name(tiny_text_files: TinyText, tmp_path: Path) -> None:
    plain = load(tiny_text_files, tmp_path)
    other = load(tiny_text_files, tmp_path, overrides=["space.optim.lr.high=0.5"])
    assert other.config.space["optim.lr"].model_dump()["high"] == 0.5
    assert other.name.startswith("by_hand-") and other.fingerprint != plain.fingerprint
    elsewhere = load(tiny_text_files, tmp_path, {"launcher": {"name": "processes"}}, ["launcher.pin=cores"])
    assert (elsewhere.name, elsewhere.fingerprint) == (plain.name, plain.fingerprint) and not elsewhere.notes
    assert elsewhere.launcher == {"name": "processes", "pin": "cores"} and plain.launcher is None
    more = load(tiny_text_files, tmp_path, overrides=["budget.trials=9"])
    assert (more.name, more.fingerprint) == (plain.name, plain.fingerprint)
    assert load(tiny_text_files, tmp_path, overrides=["optim.eps=0.5", "name=mine"]).name == "mine"
    whole = "space.optim.lr={type: float, low: 0.1, high: 0.2}"
    new = load(tiny_text_files, tmp_path, overrides=[whole, "space.optim.warmup={type: float, low: 0, high: 0.5}"])
    assert new.config.space["optim.lr"].type == new.config.space["optim.warmup"].type == "float"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budgt.trials=3", r"^override budgt\.trials: unknown key 'budgt'; .* Did you mean budget\?$"),
        ("optm.lr=3", r"^override optm\.lr: unknown key 'optm'; choices: name, .* Did you mean optim\?$"),
        ("space.optim.lrr.low=1", r"^override space\.optim\.lrr\.low: space has no 'optim\.lrr'; choices: optim\.lr"),
        ("optim.lr=0.1", r"settings\.optim\.lr: every arm that trains searches it, so it would change nothing$"),
    ],
)
def test_an_override_that_changes_nothing(
    tiny_text_files: TinyText, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load(tiny_text_files, tmp_path, overrides=[override])


def test_a_setting_of_an_adapter_that_no_arm_has(tiny_text_files: TinyText, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"settings\.adapter\.dim: no arm has an adapter, so it would change nothing$"):
        load(tiny_text_files, tmp_path, {"arms": ["frozen", "head_only"], "settings": {"adapter.dim": 3}})


def test_changed_settings_are_noted_as_the_title_may_not_fit(tiny_text_files: TinyText, tmp_path: Path) -> None:
    def noted(settings: Mapping[str, Any] = {}, overrides: tuple[str, ...] = ()) -> list[str]:
        return [note.text for note in load(tiny_text_files, tmp_path, settings, overrides).notes]

    start, described = "changed settings, so the title may not fit: ", {"description": "Of 600 examples"}
    assert noted() == []
    assert noted(described, ("data.train_limit=9", "budget.trials=9", "storage=postgresql://u:secret@h/d")) == [
        f"{start}data.train_limit=9"
    ]
    assert noted(described | {"settings": {"data.train_limit": 9}}) == []
    assert noted({"settings": {"data.train_limit": 9}}, ("optim.eps=0.5",)) == [
        f"{start}data.train_limit=9, optim.eps=0.5"
    ]


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
