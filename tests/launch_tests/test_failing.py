"""What becomes of a trial that fails, by the cause: the table of docs/explanation/records.md, a test each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
from small_experiments import Plan, comparable, log_of, misbehaving, num_starts

from harness.config.execution import Execution
from harness.launch import remote_worker
from harness.launch.events import Busy, Done, Failed, Note, TrialEvent
from harness.launch.processes import ProcessLauncher
from harness.launch.run_experiment import RunPlan, RunReport, run_experiment
from harness.launch.task import TrialTask
from harness.launch.worker import PackedWorker, Worker
from harness.records.failures import FILE, TRIES, Failures
from harness.records.schema import Summary
from harness.records.trial_folder import TrialFolder
from harness.training.checkpoint import save_checkpoint
from harness.training.engine import drive

FROZEN = {"frozen": {"train": "none", "adapter": None}}


def train(task: TrialTask, events: list[TrialEvent]) -> Summary:
    event = drive(Worker().steps(task, events.append))
    assert isinstance(event, Done)
    return event.summary


def reasons_of(task: TrialTask) -> list[str]:
    """The failures on record, in order."""
    lines = (task.folder / FILE).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["reason"] for line in lines]


def undisturbed(plan: Plan, arm: dict[str, object]) -> Summary:
    """The same trial in a folder of its own, where nothing goes wrong any more."""
    (task,) = plan({"bad": arm}, results="whole").pending
    return train(task, [])


@pytest.mark.parametrize(
    ("how", "reason", "tries"), [("raise", "error", 2), ("memory", "oom", 3), ("nan", "nan", 1), ("exit", "error", 2)]
)
def test_what_comes_back_is_parked(how: str, reason: str, tries: int, plan: Plan, events: list[TrialEvent]) -> None:
    """Within one launch; the next one does not try it again unless it is asked to."""
    arm = misbehaving(how)
    (task,) = plan({"bad": arm}).pending
    summary = train(task, events)
    assert (summary.state, summary.reason, num_starts(task.folder)) == ("failed", reason, tries)
    assert reasons_of(task) == [reason] * tries
    told = [event.message for event in events if isinstance(event, Note)]
    assert (
        [text.startswith(f"bad/seed0 failed ({reason}: ") for text in told]
        == [True] * (tries - 1)
        == [True] * len(events)
    )
    assert (task.folder / "traceback.txt").is_file() == (reason == "error")  # parked with its trace
    assert plan({"bad": arm}).pending == ()
    (asked,) = plan({"bad": arm}, retry_failed=True).pending
    assert train(asked, events).state == "failed"
    assert reasons_of(task) == [reason] * tries + ["asked"] + [reason] * tries


@pytest.mark.parametrize("how", ["raise", "memory"])
def test_what_does_not_come_back_leaves_no_trace_in_the_numbers(
    how: str, plan: Plan, events: list[TrialEvent], tmp_path: Path
) -> None:
    arm = misbehaving(how, call=5, marker=str(tmp_path / "once"))
    (task,) = plan({"bad": arm}).pending
    summary = train(task, events)
    assert summary.state == "complete" and len(reasons_of(task)) == 1 and num_starts(task.folder) == 2
    assert comparable(summary) == comparable(undisturbed(plan, arm))
    assert not (task.folder / "traceback.txt").exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "garbage"])
def test_a_damaged_checkpoint_begins_the_trial_anew(
    damage: str, plan: Plan, events: list[TrialEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged behind its header as well: the digest of all tensors is in it."""
    (task,) = plan({"good": {}}).pending
    path = TrialFolder(task.folder).checkpoint

    def save_and_stop(path: Path, checkpoint: object, *, sync: bool) -> None:
        save_checkpoint(path, checkpoint)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("harness.training.loop.save_checkpoint", save_and_stop)
        train(task, events)
    whole = path.read_bytes()
    middle = len(whole) * 3 // 4
    flipped = whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :]
    path.write_bytes({"cut": whole[:middle], "flipped": flipped, "empty": b"", "garbage": b"no tensors"}[damage])
    summary = train(task, events)
    assert summary.state == "complete" and reasons_of(task) == ["damaged"]
    assert next(event.message for event in events if isinstance(event, Note)).startswith(
        f"good/seed0 failed (damaged: {path}: damaged checkpoint"
    )
    (again,) = plan({"good": {}}, results="whole").pending
    assert comparable(summary) == comparable(train(again, [])) and log_of(task.folder) == log_of(again.folder)


def launched(plan: RunPlan, jobs: int) -> tuple[RunReport, list[str]]:
    """Run it; what went wrong, and what was told besides."""
    notes: list[str] = []
    return run_experiment(plan, jobs, lambda e: notes.append(e.message) if isinstance(e, Note) else None), notes


@pytest.mark.slow
def test_a_trial_that_kills_its_process_is_not_tried_for_ever(plan: Plan) -> None:
    """It is parked; everything else is trained by the processes that take the place of the dead."""
    arms = {"poisoned": misbehaving("kill", call=5), **FROZEN, "good": {}}
    report, notes = launched(plan(arms), 2)
    (failure,) = report.failures
    died = "poisoned/seed0: failed: killed: its process died 5 times before this epoch could end"
    assert failure == f"{died}; it is parked: with --retry-failed, or without its folder, it is tried again"
    assert len(notes) == TRIES["killed"] == 5 and all(" signal 9 " in note for note in notes)
    again = plan(arms)
    assert again.pending == () and {summary.state for summary in again.reused.values()} == {"complete", "failed"}
    (poisoned,) = (task for task in plan(arms, retry_failed=True).pending)
    assert reasons_of(poisoned) == ["killed"] * 5 and num_starts(poisoned.folder) == 5


@pytest.mark.slow
def test_a_process_that_dies_before_it_can_train_ends_the_trial(
    plan: Plan, events: list[TrialEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No record can count such deaths, so the launch does."""
    (task,) = plan({"good": {}}).pending
    monkeypatch.setattr(remote_worker, "serve", print)  # which ends at once
    with ProcessLauncher(events.append) as launcher:
        launcher.submit(task)
        while launcher.num_in_flight:
            launcher.pump(60)
    *notes, last = events
    assert len(notes) == TRIES["killed"] and all(isinstance(note, Note) for note in notes)
    assert isinstance(last, Failed) and last.killed and "for the 6th time" in last.message


@pytest.fixture
def own_server() -> Iterator[None]:
    """Workers of the test have its stderr: the server that they are forked from starts within it."""
    server: Any = vars(forkserver)["_forkserver"]
    server._stop()
    yield
    server._stop()


@pytest.mark.slow
@pytest.mark.usefixtures("capfd", "own_server")
def test_a_trial_that_hangs_is_ended_and_goes_on(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its process says where it stood still, and dies; another one goes on from the last epoch."""
    monkeypatch.setenv("HARNESS_HANG_S", "8")
    arm = misbehaving("hang", call=5, marker=str(tmp_path / "once"))
    planned = plan({"bad": arm, "good": {}})
    report, notes = launched(planned, 2)
    assert report.failures == [] and report.num_trained == 2
    (note,) = notes
    assert note == "bad/seed0: its process ended with exit code 1; it goes on from its last epoch"
    assert "misbehaving.py" in capfd.readouterr().err
    (summary,) = (planned.store.trial(task.config.trial_id).summary() for task in planned.pending[:1])
    assert summary is not None and comparable(summary) == comparable(undisturbed(plan, arm))


def test_a_suspect_has_no_neighbours(plan: Plan) -> None:
    """Neither beside those that are under way, nor they beside it."""
    packed = plan({"one": {}, "suspect": {"optim": {"lr": 0.03}}}).pending
    one, suspect = (replace(task, execution=Execution(engine="packed", pack=2)) for task in packed)
    Failures(suspect.folder).note("killed", 0, "its process died")
    for first, second in ((one, suspect), (suspect, one)):
        worker = PackedWorker(2, lambda event: False)
        worker.start(first)
        assert len(worker) == 1
        worker.start(second)
        assert worker.run() == [Busy(second)] and len(worker) == 1
        worker.close()
