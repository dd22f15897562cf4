"""The process beside a launch, for real: killed, stopped, left alone; and which tracker the options mean."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from tracking_tests.launched import LaunchedTrial, is_running
from tracking_tests.local_records import write_sweep
from tracking_tests.transaction_log import LoggedRun, read_finished_run

from harness.cli import following as module
from harness.cli.following import ENDED, FollowerProcess, choose_tracker, following
from harness.errors import UserError
from harness.tracking.trackers import TRACKERS, tracker_type

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_SERVICE", raising=False)  # the process has one of its own


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    return tmp_path / "small"


def whole_runs(experiment: Path) -> dict[str, LoggedRun]:
    """By id; a trial that has not ended may have left a part."""
    found: dict[str, LoggedRun] = {}
    for path in experiment.glob("wandb/offline-run-*/run-*.wandb"):
        name = path.parent.name.split("-", 3)[-1]
        if not name.startswith("cut"):
            assert name not in found
            found[name] = read_finished_run(path)
    return found


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def parts(experiment: Path) -> list[Path]:
    return list(experiment.glob("wandb/offline-run-*/run-*.wandb"))


@pytest.mark.slow
def test_every_run_is_whole_at_the_end(experiment: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with following(experiment, "wandb"):
        for number in range(12):
            LaunchedTrial(experiment, f"trial{number}").start().log(1, 2).end()
    runs = whole_runs(experiment)
    assert set(runs) == {f"trial{number}" for number in range(12)}
    assert all([row["train/loss"] for row in run.history] == [1.0, 0.5] for run in runs.values())
    assert {(run.summary["state"], run.exit_code) for run in runs.values()} == {("complete", 0)}
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on(experiment: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """While trials train, and again when the launch has ended; each trial is one whole run."""
    process = FollowerProcess(experiment, "wandb")
    LaunchedTrial(experiment, "before").start().log(1).end()
    trial = LaunchedTrial(experiment, "during").start().log(1)
    journal = experiment / ".tracked" / "wandb.jsonl"
    wait_until(lambda: len(parts(experiment)) == 2 and len(journal.read_bytes().splitlines()) == 2)
    first = process._process
    os.kill(first.pid, signal.SIGKILL)
    trial.log(2).end()
    LaunchedTrial(experiment, "after").start().log(1).end()
    wait_until(lambda: process._process is not first)  # starts are counted before the process is there
    os.kill(process._process.pid, signal.SIGKILL)
    process.end(ENDED)
    assert {name: len(run.history) for name, run in whole_runs(experiment).items()} == {
        "before": 1,
        "during": 2,
        "after": 1,
    }
    assert capfd.readouterr() == ("", "")


def test_a_process_that_always_dies_is_not_started_for_ever(
    experiment: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FOLLOW", "raise SystemExit(3)")
    process = FollowerProcess(experiment, "wandb")
    wait_until(lambda: not process._listener.is_alive())
    process.end(ENDED)
    assert process._num_starts == module.MAX_STARTS
    assert f"failed {module.MAX_STARTS} times" in capfd.readouterr().err


@pytest.mark.slow
def test_a_process_that_hangs_is_left_behind(
    experiment: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENT_S", 0.2)
    monkeypatch.setattr(module, "WAIT_S", 1.0)
    process = FollowerProcess(experiment, "wandb")
    wait_until((experiment / ".tracked" / "wandb.jsonl").exists)
    os.kill(process._process.pid, signal.SIGSTOP)
    LaunchedTrial(experiment, "abc").start().log(1).end()
    process.end(ENDED)
    waiting, left = capfd.readouterr().err.splitlines()
    assert waiting.startswith("waiting at most 1 s")
    assert left.startswith("wandb: ") and "within 1 s" in left
    process._listener.join(30)
    assert not process._listener.is_alive() and not is_running(process._process.pid)
    monkeypatch.setattr(module, "WAIT_S", 60.0)
    with following(experiment, "wandb"):
        pass  # the same command, which has nothing to train
    assert set(whole_runs(experiment)) == {"abc"}


@pytest.mark.slow
def test_what_has_ended_is_whole_although_the_launch_was_killed(experiment: Path) -> None:
    """A trial that has not ended is left as it is until the next launch; the process goes away by itself."""
    code = """
        import os, signal, sys
        from pathlib import Path
        from harness.cli.following import FollowerProcess
        from tracking_tests.launched import LaunchedTrial
        experiment = Path(sys.argv[1])
        process = FollowerProcess(experiment, "wandb")
        for name in ("one", "two", "cut"):
            trial = LaunchedTrial(experiment, name).start().log(1)
            if name != "cut":
                trial.end()
        print(process._process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run(
        [sys.executable, "-c", dedent(code), str(experiment)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    wait_until(lambda: not is_running(int(killed.stdout)))
    assert set(whole_runs(experiment)) == {"one", "two"}
    trial = LaunchedTrial(experiment, "cut").start().log(1)
    with following(experiment, "wandb"):
        trial.start().log(1, 2)
        trial.end()
    (log,) = experiment.glob("wandb/offline-run-*-cut/run-cut.wandb")
    assert len(read_finished_run(log).history) == 2


@pytest.mark.slow
def test_a_launch_that_fails_shows_no_study_but_its_trials(tmp_path: Path) -> None:
    experiment = write_sweep(tmp_path)
    with pytest.raises(LookupError), following(experiment, "wandb"):
        LaunchedTrial(experiment, "abc").start().log(1).end()
        raise LookupError
    assert set(whole_runs(experiment)) == {"abc"}
    with following(experiment, "wandb"):
        pass
    assert len(whole_runs(experiment)) == 2  # and the study


@pytest.mark.slow
def test_an_interrupted_launch_does_not_wait(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_S", 600.0)
    trials = [LaunchedTrial(experiment, f"trial{number}") for number in range(4)]
    with pytest.raises(KeyboardInterrupt), following(experiment, "wandb"):
        for trial in trials:
            trial.start().log(1).end()
        began = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - began < 300  # far from what a launch that waits would take
    wait_until(lambda: len(parts(experiment)) == 4)
    assert set(whole_runs(experiment)) == {f"trial{number}" for number in range(4)}


def test_nothing_is_started_for_none(experiment: Path) -> None:
    with following(experiment, "none"):
        LaunchedTrial(experiment, "abc").start()
    assert {path.name for path in experiment.iterdir()} == {"starts.jsonl", "records"}


class TestOptions:
    def test_wandb_is_the_default(self) -> None:
        assert choose_tracker(None, "auto") == choose_tracker("wandb", "offline") == "wandb"

    def test_the_mode_reaches_the_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_MODE", "offline")
        choose_tracker(None, "online")
        assert os.environ["WANDB_MODE"] == "online"

    @pytest.mark.parametrize("mode", ["off", "auto"])
    def test_off(self, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_MODE", "disabled" if mode == "auto" else "online")
        assert choose_tracker(None, mode) == "none"

    def test_others(self) -> None:
        assert {choose_tracker(name, "auto") for name in TRACKERS} == set(TRACKERS)

    @pytest.mark.parametrize(
        ("track", "wandb", "message"),
        [
            ("wandbb", "auto", "--track 'wandbb'; choices: .*wandb.* mean wandb"),
            (None, "maybe", "--wandb 'maybe'; choices: auto, offline, online, off"),
            ("tensorboard", "online", "--wandb online .* --track is tensorboard"),
        ],
    )
    def test_mistakes(self, track: str | None, wandb: str, message: str) -> None:
        with pytest.raises(UserError, match=message):
            choose_tracker(track, wandb)

    def test_a_package_that_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tracker_type("tensorboard"), "package", "no_such_package")
        with pytest.raises(UserError, match=r"--track tensorboard .* run: pip install no_such_package"):
            choose_tracker("tensorboard", "auto")
