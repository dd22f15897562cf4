"""W&B in a process of its own, for real, offline: nothing waits for it, nothing is lost when it or its worker dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from harness.records.schema import Summary, TrialState
from harness.tracking import wandb_process
from harness.tracking.tracker import TrialRun
from harness.tracking.wandb_process import MAX_STARTS, WandbProcess

from .transaction_log import LoggedRun, read_finished_run

pytestmark = pytest.mark.slow

DIED = "the process that runs wandb has died; the records on disk are complete"


@pytest.fixture
def process() -> Iterator[WandbProcess]:
    process = WandbProcess()
    yield process
    process.close()


@pytest.fixture
def complaints() -> list[str]:
    return []


def run_of(trial_id: str) -> TrialRun:
    return TrialRun(trial_id, "text_strategies", "residual_add", 3, "search", {"lr": 1e-3})


def complete(trial_id: str) -> Summary:
    return Summary(trial_id=trial_id, state=TrialState.COMPLETE, metrics={"target_accuracy": 0.625})


def track(process: WandbProcess, directory: Path, trial_id: str, complaints: list[str]) -> None:
    tracker = process.tracker(directory, "offline", complaints.append)
    tracker.start(run_of(trial_id))
    for epoch in (1, 2):
        tracker.log({"epoch": epoch, "metrics": {"train/loss": 1 / epoch}, "seconds": 1.0})
    tracker.finish(complete(trial_id))


def pid_of(process: WandbProcess) -> int:
    assert process._link is not None
    return process._link._process.pid


def logged(directory: Path) -> dict[str, LoggedRun]:
    runs = map(read_finished_run, directory.glob("wandb/offline-run-*/run-*.wandb"))
    return {run.run_id: run for run in runs}


def test_every_run_is_whole_when_it_is_closed(process: WandbProcess, tmp_path: Path, complaints: list[str]) -> None:
    names = [f"trial{number}" for number in range(12)]  # more than may be ending at once
    for name in names:
        track(process, tmp_path, name, complaints)
    process.close()
    runs = logged(tmp_path)
    assert sorted(runs) == sorted(names) and complaints == []
    assert all([row["train/loss"] for row in run.history] == [1.0, 0.5] for run in runs.values())
    assert {(run.summary["state"], run.exit_code) for run in runs.values()} == {("complete", 0)}


def test_no_more_runs_than_allowed_are_ending(
    process: WandbProcess, tmp_path: Path, complaints: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_process, "MAX_ENDING", 1)
    for number in range(3):
        track(process, tmp_path, f"trial{number}", complaints)
        assert process._link is not None and len(process._link.ending) <= 1
    process.close()
    assert len(logged(tmp_path)) == 3


def test_runs_side_by_side(process: WandbProcess, tmp_path: Path, complaints: list[str]) -> None:
    """As those of a pack: their events come mixed."""
    trackers = {name: process.tracker(tmp_path, "offline", complaints.append) for name in ("one", "two")}
    for name, tracker in trackers.items():
        tracker.start(run_of(name))
    for epoch in (1, 2):
        for tracker in trackers.values():
            tracker.log({"epoch": epoch, "metrics": {"train/loss": 1 / epoch}, "seconds": 1.0})
    for name, tracker in trackers.items():
        tracker.finish(complete(name))
    process.close()
    assert {name: len(run.history) for name, run in logged(tmp_path).items()} == {"one": 2, "two": 2}
    assert complaints == []


def test_an_error_after_the_trial_s_end_is_told(process: WandbProcess, tmp_path: Path, complaints: list[str]) -> None:
    (tmp_path / "taken").write_bytes(b"")
    track(process, tmp_path / "taken", "abc", complaints)
    process.close()
    (line,) = complaints
    assert line.startswith("wandb failed: FileExistsError: ") and line.endswith("; the records on disk are complete")


def test_a_process_that_dies_is_told_and_replaced(process: WandbProcess, tmp_path: Path, complaints: list[str]) -> None:
    tracker = process.tracker(tmp_path, "offline", complaints.append)
    tracker.start(run_of("cut"))
    os.kill(pid_of(process), signal.SIGKILL)
    deadline = time.monotonic() + 30
    while not complaints and time.monotonic() < deadline:
        time.sleep(0.01)
    assert complaints == [DIED]
    tracker.log({"epoch": 1, "metrics": {}, "seconds": 1.0})
    tracker.finish(complete("cut"))  # nothing waits, and nothing is said twice
    track(process, tmp_path, "next", complaints)
    process.close()
    assert complaints == [DIED]
    assert logged_whole(tmp_path) == {"next"}


def logged_whole(directory: Path) -> set[str]:
    """The ids of the runs that were ended; a killed one may have left a part."""
    found = {path.parent.name.split("-", 3)[-1]: path for path in directory.glob("wandb/offline-run-*/run-*.wandb")}
    return {name for name, path in found.items() if name != "cut" and read_finished_run(path).exit_code == 0}


def test_a_process_that_always_dies_is_not_started_for_ever(
    process: WandbProcess, tmp_path: Path, complaints: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_process, "SERVE", "raise SystemExit(3)")
    pids = set()
    for number in range(MAX_STARTS + 2):
        track(process, tmp_path, f"trial{number}", complaints)
        pids.add(pid_of(process))
        deadline = time.monotonic() + 30
        while len(complaints) <= number and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(pids) == MAX_STARTS
    assert (
        complaints[MAX_STARTS:]
        == [f"the process that runs wandb failed {MAX_STARTS} times; the records on disk are complete"] * 2
    )
    assert set(complaints[:MAX_STARTS]) == {DIED}


def test_a_process_that_hangs_is_left_behind(
    process: WandbProcess, tmp_path: Path, complaints: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_process, "PATIENCE_S", 0.5)
    track(process, tmp_path, "abc", complaints)
    os.kill(pid_of(process), signal.SIGSTOP)
    process.close()
    assert complaints == [
        "the process that runs wandb did not end a run within 0 s and was left behind; the records on disk are complete"
    ]


def test_a_full_pipe_does_not_block_for_ever(
    process: WandbProcess, tmp_path: Path, complaints: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_process, "FINISH_TIMEOUT_S", 1.0)
    tracker = process.tracker(tmp_path, "offline", complaints.append)
    tracker.start(run_of("abc"))
    os.kill(pid_of(process), signal.SIGSTOP)
    entry = {"epoch": 1, "metrics": {f"valid_target/{number}": 0.5 for number in range(1000)}, "seconds": 1.0}
    for _ in range(1000):
        tracker.log(entry)
    assert complaints == ["the process that runs wandb does not answer; the records on disk are complete"]


def test_runs_that_were_ending_are_finished_when_the_worker_is_killed(tmp_path: Path) -> None:
    """And one that had not ended is left as it is; the process goes away by itself."""
    code = """
        import os, signal, sys
        from pathlib import Path
        from harness.records.schema import Summary
        from harness.tracking.tracker import TrialRun
        from harness.tracking.wandb_process import WandbProcess
        process = WandbProcess()
        for name in ("one", "two", "cut"):
            tracker = process.tracker(Path(sys.argv[1]), "offline", print)
            tracker.start(TrialRun(name, "e", "a", 0, "search", {}))
            tracker.log({"epoch": 1, "metrics": {"train/loss": 1.0}, "seconds": 1.0})
            if name != "cut":
                tracker.finish(Summary(trial_id=name, state="complete"))
        print(process._link._process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    worker = subprocess.run(
        [sys.executable, "-c", dedent(code), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert worker.returncode == -signal.SIGKILL
    pid, deadline = int(worker.stdout), time.monotonic() + 60
    while Path(f"/proc/{pid}/cmdline").exists() and time.monotonic() < deadline:
        if not Path(f"/proc/{pid}/cmdline").read_bytes():  # a zombie that nobody reaps here
            break
        time.sleep(0.05)
    assert time.monotonic() < deadline
    assert logged_whole(tmp_path) == {"one", "two"}


def test_an_unused_one_starts_nothing(process: WandbProcess, tmp_path: Path, complaints: list[str]) -> None:
    tracker = process.tracker(tmp_path, "offline", complaints.append)
    tracker.log({"epoch": 1, "metrics": {}, "seconds": 1.0})
    tracker.finish(complete("abc"))
    assert process._link is None and list(tmp_path.iterdir()) == []
