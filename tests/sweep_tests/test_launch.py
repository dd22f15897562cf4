"""Launchers: in this process, and in worker processes that may die."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import pytest

from harness.records.store import TrialFolder
from harness.sweep.launch import InProcessLauncher, ProcessLauncher
from harness.sweep.run_experiment import run_experiment
from harness.sweep.worker import TrialEvent

from .conftest import Plan, comparable, log_of, misbehaving, num_starts

THREE = {"frozen": {"train": "none", "adapter": None}, "head_only": {"train": "head", "adapter": None}, "adapters": {}}


def ends(events: list[TrialEvent]) -> list[tuple[str, str]]:
    """Kind and title of each trial's last event, in order."""
    return [(event.kind, event.task.title) for event in events if event.kind not in ("epoch", "note")]


def test_in_process_trials_run_in_their_order(plan: Plan, events: list[TrialEvent]) -> None:
    InProcessLauncher().launch(plan(THREE).pending, events.append)
    assert ends(events) == [("done", f"{arm}/seed0") for arm in THREE]
    assert [event.task.run.arm for event in events if event.kind == "epoch"] == ["head_only"] * 2 + ["adapters"] * 2


def test_a_trial_that_another_launch_holds_comes_last_and_is_waited_for(plan: Plan, events: list[TrialEvent]) -> None:
    tasks = plan(THREE).pending
    holding, release = threading.Event(), threading.Event()

    def hold() -> None:
        with TrialFolder(tasks[0].folder).lock(wait=True) as held:
            assert held
            holding.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(60)

    def hear(event: TrialEvent) -> None:
        events.append(event)
        if ends(events)[-1:] == [("done", "adapters/seed0")]:
            threading.Timer(0.2, release.set).start()

    InProcessLauncher().launch(tasks, hear)
    holder.join()
    assert ends(events) == [("done", "head_only/seed0"), ("done", "adapters/seed0"), ("done", "frozen/seed0")]


def test_an_exception_of_the_listener_stops_the_launch(plan: Plan) -> None:
    tasks = plan(THREE).pending

    def leave(event: TrialEvent) -> None:
        if event.kind == "epoch":
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        InProcessLauncher().launch(tasks, leave)
    finished = [TrialFolder(task.folder).summary() for task in tasks]
    assert finished[0] is not None and finished[1:] == [None, None]
    assert not (tasks[1].folder / "traceback.txt").exists()


def test_two_processes_give_the_bits_of_one_also_after_a_kill(
    plan: Plan, events: list[TrialEvent], tmp_path: Path
) -> None:
    """A worker that is killed is reported and costs its trial an epoch; the others are trained."""
    once = str(tmp_path / "once")
    arms = {"killed": misbehaving("kill", call=5, marker=once), **THREE, "noisy": {"adapter": {"dropout": 0.2}}}
    first = plan(arms)
    killed, *others = first.pending
    report = run_experiment(first, 2, events.append)
    assert sorted(ends(events)) == sorted([("failed", "killed/seed0"), *(("done", task.title) for task in others)])
    how = "its process was killed by signal 9 (out of memory?)"
    assert report.failures == [f"killed/seed0: {how}; the same command goes on from its last epoch"]
    assert report.user_error is None and report.num_trained == 4
    told = sorted((event.task.run.arm, event.entry["epoch"]) for event in events if event.entry is not None)
    assert told == sorted([*((arm, n) for arm in ("head_only", "adapters", "noisy") for n in (1, 2)), ("killed", 1)])
    folder = TrialFolder(killed.folder)
    assert folder.summary() is None and folder.checkpoint.is_file() and len(log_of(killed.folder)) == 1

    second = plan(arms)
    assert second.pending == (killed,) and len(second.reused) == 4
    assert run_experiment(second, 1, events.append).failures == []
    whole = plan(arms, results="whole")  # in one process; the marker is there, so that nothing is killed
    assert run_experiment(whole, 1, events.append).failures == []
    for task in first.pending:
        found, expected = (plan_.store.trial(task.config.trial_id) for plan_ in (second, whole))
        summaries = [found.summary(), expected.summary()]
        assert summaries[0] is not None and summaries[1] is not None
        assert comparable(summaries[0]) == comparable(summaries[1])
        assert log_of(found.path) == log_of(expected.path)
        assert (found.path / "predictions.jsonl").read_bytes() == (expected.path / "predictions.jsonl").read_bytes()
        assert num_starts(found.path) == (2 if task == killed else 1)


def test_a_worker_that_is_killed_is_replaced(plan: Plan, events: list[TrialEvent], tmp_path: Path) -> None:
    """A single one, so that nobody else could train what comes after: killed at work, then with nothing to do."""
    arms = {"killed": misbehaving("kill", marker=str(tmp_path / "once")), "frozen": THREE["frozen"], "adapters": {}}

    def hear(event: TrialEvent) -> None:
        events.append(event)
        if event.kind == "done" and event.task.run.arm == "frozen":
            (worker,) = multiprocessing.active_children()
            worker.kill()
            worker.join()
        if event.kind == "epoch":
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        ProcessLauncher(1).launch(plan(arms).pending, hear)
    assert ends(events) == [("failed", "killed/seed0"), ("done", "frozen/seed0")]
    assert events[-1].kind == "epoch" and events[-1].task.run.arm == "adapters"
    assert multiprocessing.active_children() == []  # the last one was stopped, not left behind
