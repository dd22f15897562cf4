"""The contract of every tracker: it takes trials side by side, what a killed launch left, and any name."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.records.schema import Summary, TrialState
from harness.records.trial_run import TrialRun
from harness.tracking.study import read_study
from harness.tracking.tracker import TrackedTrial, Tracker
from harness.tracking.trackers import TRACKERS, tracker_type

from .launched import CONFIG, entry
from .local_records import write_sweep


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture(params=list(TRACKERS))
def tracker(request: pytest.FixtureRequest, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Tracker]:
    """It keeps its files in its folder, and the terminal is not its to write on."""
    made = tracker_type(request.param)(tmp_path / "results" / "small")
    yield made
    assert {path.name for path in tmp_path.iterdir()} <= {"results", "sweep"}
    assert capfd.readouterr() == ("", "")


def trial_of(
    trial_id: str, arm: str = "residual_add", phase: str = "confirm", number: int | None = None
) -> TrackedTrial:
    return TrackedTrial(TrialRun(trial_id, "small", arm, 3, phase, number, {"optim.lr": 1e-3}), CONFIG)


def summary_of(trial_id: str, state: str = "complete", num_epochs: int = 2) -> Summary:
    reason = "nan" if state == "failed" else None
    metrics = {"target_accuracy": 0.625} if state == "complete" else {}
    return Summary(trial_id=trial_id, state=TrialState(state), reason=reason, epochs_run=num_epochs, metrics=metrics)


def show(tracker: Tracker, trial: TrackedTrial, state: str = "complete") -> None:
    assert tracker.open(trial) == 0
    tracker.log(trial, [entry(1), entry(2)])
    tracker.close(trial, summary_of(trial.trial_id, state), "content")


def test_what_it_needs_is_installed_with_dev(tracker: Tracker) -> None:
    assert tracker.package is None or find_spec(tracker.package) is not None
    assert tracker.num_at_once >= 1 and tracker.timeout_s > 0


@pytest.mark.parametrize("state", ["complete", "pruned", "failed"])
def test_a_trial_of_each_state(tracker: Tracker, state: str) -> None:
    show(tracker, trial_of(state, phase="search", number=7), state)


def test_a_trial_without_epochs(tracker: Tracker) -> None:
    trial = trial_of("frozen", phase="baseline")
    tracker.open(trial)
    tracker.close(trial, summary_of("frozen", num_epochs=0), None)


def test_trials_side_by_side(tracker: Tracker) -> None:
    trials = [trial_of("one"), trial_of("two", arm="other")]
    for trial in trials:
        tracker.open(trial)
    for epoch in (1, 2):
        for trial in trials:
            tracker.log(trial, [entry(epoch)])
    for trial in reversed(trials):
        tracker.close(trial, summary_of(trial.trial_id), "content")


def begin_and_die(name: str, folder: Path) -> None:
    """Be killed between two epochs."""
    os.environ.pop("WANDB_SERVICE", None)  # wandb's service of the tests
    tracker, trial = tracker_type(name)(folder), trial_of("abc")
    tracker.open(trial)
    tracker.log(trial, [entry(1)])
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_what_a_killed_follower_left_is_gone_on_with(tracker: Tracker) -> None:
    """What the tracker says that it holds is not sent again."""
    (name,) = (name for name in TRACKERS if tracker_type(name) is type(tracker))
    process = multiprocessing.get_context("spawn").Process(target=begin_and_die, args=(name, tracker.folder))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    trial = trial_of("abc")
    num_held = tracker.open(trial)
    assert num_held in (0, 1)
    tracker.log(trial, [entry(1), entry(2)][num_held:])
    tracker.close(trial, summary_of("abc"), None)


@pytest.mark.parametrize(
    "arm", ["stochastic depth=0.5, l2 lambda=0.001, bottleneck=8, weight decay=0.02 " * 4, "../../a/b", "arm é"]
)
def test_any_name_of_an_arm(tracker: Tracker, arm: str) -> None:
    show(tracker, trial_of("abc", arm))


def test_a_study(tracker: Tracker, tmp_path: Path) -> None:
    study = read_study(write_sweep(tmp_path).parent, "sweep")
    assert study is not None
    tracker.show_study(study)
