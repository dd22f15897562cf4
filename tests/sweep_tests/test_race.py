"""What a race may be decided on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_tests.conftest import Cli, cli
from small_experiments import Plan
from sweeps_by_hand import write_sweep
from tiny_text import TinyText

import harness
from harness.config.trial import TrialConfig
from harness.engines.choice import EngineChoice
from harness.errors import TrialError, UserError
from harness.records.publishing import publish
from harness.records.store import RecordStore
from harness.search.sweep_files import load_sweep
from harness.sweep.plan import plan_sweep
from harness.sweep.race import Launch, train_all
from harness.sweep.status import read_status
from harness.training.checkpoint import Checkpoint, save_checkpoint
from harness.training.trial import Trial

__all__ = ["cli"]


def test_a_race_waits_for_a_training_that_could_not_be_written(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and the same command goes on: else the contender would drop out, and another one could win."""
    planned = plan({"one": {}, "two": {"optim": {"lr": 0.03}}})
    one, two = planned.pending
    run = Launch(planned.store.results, 1, lambda event: None, EngineChoice("plain"))

    def fill_disk(path: Path, checkpoint: Checkpoint, *, sync: bool) -> None:
        if path.parent == two.folder:
            raise TrialError("disk", f"{path}: cannot be written: No space left on device")
        save_checkpoint(path, checkpoint, sync=sync)

    with monkeypatch.context() as patch, pytest.raises(TrialError, match="No space left on device"):
        patch.setattr("harness.training.loop.save_checkpoint", fill_disk)
        train_all([one, two], run)
    assert train_all([one, two], run).keys() == {one.config.trial_id, two.config.trial_id}


@pytest.fixture
def by_hand(tmp_path: Path, tiny_text_files: TinyText) -> Path:
    """A sweep of three points, each trained in a blink."""
    few = {"space": {"optim.lr": {"type": "log_float", "low": 1e-3, "high": 1e-1}}, "arms": ["residual_add"]}
    return write_sweep(
        tiny_text_files.experiment,
        tmp_path,
        {**few, "budget": {"trials": 3}, "race": {"candidates": 2, "seeds": [1001]}},
    )


def test_a_winner_at_an_end_of_its_search_is_told_with_the_winners_and_under_the_table(
    cli: Cli, by_hand: Path, tmp_path: Path
) -> None:
    rates = {"optim.lr": {"type": "categorical", "choices": [1e-9, 1, 3e-2]}}
    content = yaml.safe_load(by_hand.read_text(encoding="utf-8")) | {"space": rates, "sampler": {"name": "grid"}}
    content["objectives"] = [{"metric": "valid_target/loss"}]
    by_hand.write_text(yaml.safe_dump(content), encoding="utf-8")
    done = cli("sweep", by_hand)
    assert done.code == 0, done.err
    where = "optim.lr is at the upper end of its search (1e-09 to 1)"
    line = f"residual_add: {where}; better values may lie beyond"
    assert line in done.out.splitlines()
    assert line in (tmp_path / "results" / "by_hand" / "table.md").read_text(encoding="utf-8")


def break_trials(
    patch: pytest.MonkeyPatch, is_broken: Callable[[TrialConfig], bool], kind: type[Exception] = RuntimeError
) -> None:
    """Let some trainings fail with an exception."""
    train = Trial.steps

    def steps(trial: Trial) -> Any:
        if is_broken(trial.config):
            raise kind("the graphics card has fallen off the bus")
        return (yield from train(trial))

    patch.setattr(Trial, "steps", steps)


def test_what_failed_in_race_or_confirm_is_trained_again_when_asked(
    cli: Cli, by_hand: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A launch without the option leaves it parked; with it, the sweep is as if nothing had ever failed."""
    with monkeypatch.context() as patch:
        break_trials(patch, lambda config: config.seed == 1001)  # the race's
        raced = cli("sweep", by_hand)
    assert raced.code == 1 and "all settings in the race failed on seed 1001" in raced.err
    assert "--retry-failed" in raced.err
    again = cli("sweep", by_hand)
    assert again.code == 1 and "off the bus" in again.out and "by another worker" not in again.out
    status = read_status("by_hand", tmp_path / "results")
    assert (status.phase, status.lost) == ("failed", ("residual_add: all settings in the race failed on seed 1001",))
    with monkeypatch.context() as patch:
        break_trials(patch, lambda config: config.seed == 1)  # one of the confirm phase's
        confirmed = cli("sweep", by_hand, "--retry-failed")
    assert confirmed.code == 1 and "fallen off the bus" in confirmed.err
    assert cli("sweep", by_hand).err == confirmed.err
    done, whole = cli("sweep", by_hand, "--retry-failed"), cli("sweep", by_hand, "--results", "whole")
    assert (done.code, done.err, whole.code) == (0, "", 0)
    for name in ("table.md", "frozen.json"):
        mended, other = (tmp_path / folder / "by_hand" / name for folder in ("results", "whole"))
        assert mended.read_bytes() == other.read_bytes(), name


def test_a_frozen_winner_stays_whatever_is_trained_again(
    cli: Cli, by_hand: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A contender that dropped out of the race does not come back after the winners were told."""
    rates: list[float] = []

    def is_first(config: TrialConfig) -> bool:
        if config.seed == 1001 and not rates:
            rates.append(config.optim.lr)
        return config.seed == 1001 and config.optim.lr == rates[0]

    with monkeypatch.context() as patch:
        break_trials(patch, is_first)
        first = cli("sweep", by_hand)
    assert first.code == 0 and rates
    frozen = (tmp_path / "results" / "by_hand" / "frozen.json").read_bytes()
    again = cli("sweep", by_hand, "--retry-failed")
    assert again.code == 0
    assert (tmp_path / "results" / "by_hand" / "frozen.json").read_bytes() == frozen


def test_a_search_in_which_all_trials_failed_has_failed(
    cli: Cli, by_hand: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """That is no mistake in the input: code 1, TrialError. Its status ends, and what was published costs nothing."""
    with monkeypatch.context() as patch:
        break_trials(patch, lambda config: True)
        done = cli("sweep", by_hand)
    assert done.code == 1 and "no trial of its search was completed" in done.err
    with pytest.raises(TrialError, match="no trial of its search was completed"):
        harness.run_sweep(by_hand, results=tmp_path / "results")
    status = read_status("by_hand", tmp_path / "results")
    assert (status.phase, status.lost) == ("failed", ("residual_add: no trial of its search was completed",))
    told = cli("status", "by_hand")
    assert "no winner can be chosen: residual_add: no trial of its search was completed" in told.out

    publish(RecordStore(tmp_path / "results", "by_hand"))
    (arm,) = [arm for arm in plan_sweep(load_sweep(by_hand), tmp_path / "results", 1).arms if arm.searches]
    assert (arm.search.finished, arm.search.new) == (3, 0)
    assert cli("sweep", by_hand).code == 1


@pytest.mark.slow
def test_a_mistake_that_only_a_training_finds_ends_every_command_with_2(
    cli: Cli, by_hand: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `harness run` does; a failure of another kind is code 1 in all of them."""
    experiment = by_hand.with_name("tiny_strategies.yaml")
    commands = [("sweep", by_hand), ("work", by_hand), ("run", experiment, "--arm=frozen"), ("work", experiment)]
    for kind, code in ((UserError, 2), (RuntimeError, 1)):
        with monkeypatch.context() as patch:
            break_trials(patch, lambda config: config.seed in (0, 1), kind)
            done = [cli(*command) for command in commands]
        assert [one.code for one in done] == 4 * [code]
        assert all("the graphics card has fallen off the bus" in one.err for one in done)
