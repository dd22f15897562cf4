"""One worker and one trial: locked, skipped when finished, its failures told."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_experiments import Plan, misbehaving, num_starts
from torch import nn

from harness.backbones.model import TaskModel
from harness.config.execution import Execution
from harness.errors import TrialError
from harness.launch.events import Busy, Done, Epoch, Failed, TrialEvent
from harness.launch.launcher import Tell
from harness.launch.stopping import Pausing
from harness.launch.task import TrialTask
from harness.launch.worker import PackedWorker, Worker
from harness.records.made_with import MadeWith
from harness.records.schema import Provenance, Summary, TrialState
from harness.records.trial_folder import TrialFolder
from harness.training.engine import drive


def summary_of(state: TrialState, reason: str | None = None) -> Summary:
    tested = {"away": {"accuracy": 0.5}} if state == TrialState.COMPLETE and reason is None else {}
    return Summary(trial_id="t", state=state, reason=reason, by_domain=tested)


@pytest.mark.parametrize(
    "summary, train, train_when_asked",
    [
        (None, True, True),
        (summary_of(TrialState.COMPLETE), False, False),
        (summary_of(TrialState.COMPLETE, "no row when it was trained"), True, True),
        (summary_of(TrialState.PRUNED), False, False),
        (summary_of(TrialState.FAILED, "nan"), False, True),
        (summary_of(TrialState.FAILED, "not_restored"), False, True),
        (summary_of(TrialState.FAILED, "sealed"), False, True),
        *((summary_of(TrialState.FAILED, reason), True, True) for reason in ("oom", "killed", "error", "disk")),
        (summary_of(TrialState.FAILED, "checkpoint"), True, True),
    ],
    ids=lambda value: value and f"{value.state.value}-{value.reason}" if isinstance(value, Summary | None) else None,
)
def test_what_has_to_be_trained(summary: Summary | None, train: bool, train_when_asked: bool, plan: Plan) -> None:
    (task,) = plan({"frozen": {"train": "none", "adapter": None}}).pending
    assert task.must_train(summary) == train
    assert replace(task, retry_failed=True).must_train(summary) == train_when_asked


def train(worker: Worker, task: TrialTask, tell: Tell) -> Done | Failed | Busy:
    return drive(worker.steps(task, tell))


@pytest.fixture
def task(plan: Plan) -> TrialTask:
    (task,) = plan({"residual_add": {}}).pending
    return task


@pytest.mark.parametrize("engine", ["plain", "cut", "packed"])
@pytest.mark.parametrize("arm", ["adapters", "full"])
def test_the_model_of_a_trial_that_has_ended_is_freed_at_once(engine: str, arm: str, plan: Plan) -> None:
    """And its optimizer: in a circle of references both wait for Python's collector, which may not come for long.

    A worker that trained Whisper's encoder grew by 32 MB with each trial, to 1.5 GB.
    """

    def alive() -> list[object]:
        kinds = (TaskModel, torch.optim.Optimizer, nn.Linear)
        return [one for one in gc.get_objects() if issubclass(type(one), kinds)]  # isinstance asks proxies, which warn

    settings: dict[str, object] = {} if arm == "adapters" else {"train": "full", "adapter": None}
    execution = Execution.model_validate({"engine": engine, "pack": 2 if engine == "packed" else 1})
    tasks = [replace(one, execution=execution) for one in plan({"one": settings}, seeds=[0, 1]).pending]
    worker = PackedWorker(2, lambda event: False)
    gc.collect()
    gc.disable()
    try:
        for one in tasks:
            worker.start(one)
            while len(worker):
                worker.run()
        left = len(alive())
    finally:
        gc.enable()
    gc.collect()
    assert left == len(alive()) > 0  # those of the base model, and of a pack's: the collector found none to free
    worker.close()


def test_a_trial_is_trained_once(task: TrialTask, events: list[TrialEvent]) -> None:
    worker = Worker()
    first, again = train(worker, task, events.append), train(worker, task, events.append)
    assert isinstance(first, Done) and first == again and first.summary.state == "complete"
    assert [event.entry["epoch"] for event in events if isinstance(event, Epoch)] == [1, 2] and len(events) == 2
    assert num_starts(task.folder) == 1


@pytest.mark.parametrize("gives", [False, True])
def test_what_gives_weights_is_not_pruned(task: TrialTask, gives: bool) -> None:
    ended = train(Worker(), replace(in_search(task), gives=gives), lambda event: True)
    assert isinstance(ended, Done) and ended.summary.state == ("complete" if gives else "pruned")


def in_search(task: TrialTask) -> TrialTask:
    """The same trial as one of a search, with its record beside the other."""
    return replace(task, run=replace(task.run, phase="search"), folder=task.folder.with_name("search"))


def test_a_search_and_a_confirm_trial_of_one_worker(task: TrialTask, events: list[TrialEvent]) -> None:
    """The search has no test data, whichever came first; the confirm phase has."""
    for order in ((in_search(task), task), (task, in_search(task))):
        worker, first = Worker(), order[0].run.phase
        found = [train(worker, replace(each, folder=each.folder / first), events.append) for each in order]
        summaries = {event.task.run.phase: event.summary for event in found if isinstance(event, Done)}
        search, confirm = summaries["search"], summaries["confirm"]
        assert search.state == confirm.state == "complete"
        assert (search.by_domain, search.base) == ({}, {}) and "target_macro_f1" not in search.metrics
        assert confirm.by_domain.keys() == confirm.base.keys() == {"away", "home"}
        assert search.valid == confirm.valid


def test_the_answer_to_an_epoch_prunes_the_trial(task: TrialTask, events: list[TrialEvent]) -> None:
    """Once: a pruned trial is finished."""

    def prune(event: TrialEvent) -> bool | None:
        events.append(event)
        return isinstance(event, Epoch)

    first, again = (train(Worker(), in_search(task), prune) for _ in range(2))
    assert isinstance(first, Done) and again == replace(first, by_another=True)
    assert (first.summary.state, first.summary.epochs_run) == ("pruned", 1)
    assert len(events) == 1 and num_starts(in_search(task).folder) == 1


def test_a_trial_that_is_held_elsewhere_is_busy(task: TrialTask, events: list[TrialEvent]) -> None:
    with TrialFolder(task.folder).lock(wait=False) as held:
        assert held
        assert train(Worker(), task, events.append) == Busy(task)
    assert not (task.folder / "config.json").exists() and events == []
    assert isinstance(train(Worker(), task, events.append), Done)


def test_what_another_worker_trained_is_told_as_that(task: TrialTask, events: list[TrialEvent]) -> None:
    """Not what this one trained, nor what it goes on with from the other's checkpoint."""

    with pytest.raises(Pausing):
        train(Worker(lambda: True), task, events.append)
    ours, other = Worker(), Worker()
    told = [train(worker, task, events.append) for worker in (ours, ours, other)]
    assert [event.by_another for event in told if isinstance(event, Done)] == [False, False, True]


def test_a_trial_whose_lease_is_lost_is_left_to_its_new_holder(task: TrialTask, events: list[TrialEvent]) -> None:
    """It stops at the end of its epoch, and what the other has written stays; nobody counts it as failed."""
    log = b'{"epoch": 1, "by": "the other"}\n'

    def lose(event: TrialEvent) -> None:
        events.append(event)
        lease = task.folder / ".lease.1"
        assert lease.exists()
        (task.folder / ".lease.2").write_bytes(b"")
        (task.folder / "log.jsonl").write_bytes(log)

    assert train(Worker(), task, lose) == Busy(task)
    assert len(events) == 1 and (task.folder / "log.jsonl").read_bytes() == log
    assert TrialFolder(task.folder).summary() is None and not (task.folder / ".lease.1").exists()
    (task.folder / ".lease.2").unlink()
    assert isinstance(train(Worker(), task, events.append), Done)


def test_a_mistake_of_the_user_is_told_as_such(plan: Plan, events: list[TrialEvent]) -> None:
    (task,) = plan({"far": {"backbone": {"layers": [9]}}}).pending
    event = train(Worker(), task, events.append)
    assert isinstance(event, Failed) and event.user_error
    assert event.message.startswith("backbone.layers: [9] matches no layer")


def test_a_full_disk_is_told_and_leaves_no_summary(
    task: TrialTask, events: list[TrialEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_disk(path: Path, checkpoint: object, *, sync: bool) -> None:
        raise TrialError("disk", f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr("harness.training.loop.save_checkpoint", fill_disk)
    event = train(Worker(), task, events.append)
    assert isinstance(event, Failed) and not event.user_error
    assert event.message.endswith("checkpoint.safetensors: cannot be written: No space left on device")
    assert TrialFolder(task.folder).summary() is None


def test_a_bug_in_a_users_strategy_is_a_summary(plan: Plan, events: list[TrialEvent]) -> None:
    (task,) = plan({"broken": misbehaving("raise")}).pending
    event = train(Worker(), task, events.append)
    assert isinstance(event, Done)
    assert (event.summary.state, event.summary.reason) == ("failed", "error")
    assert (task.folder / "traceback.txt").is_file()
    assert plan({"broken": misbehaving("raise")}).pending == ()  # it was tried again, and is parked


def test_a_trial_is_trained_with_what_its_sender_has(plan: Plan) -> None:
    """The fingerprints that a task names are those of the record, or there is none."""
    (task,) = plan({"adapters": {}}).pending
    other = replace(task, made_with=MadeWith("b" * 64, "c" * 64))
    failed = train(Worker(), other, lambda event: None)
    assert isinstance(failed, Failed) and failed.user_error
    assert "has another backbone than the machine that sent the trial" in failed.message
    assert not TrialFolder(task.folder).has_started()
    done = train(Worker(), task, lambda event: None)
    made = TrialFolder(task.folder).files.model("provenance.json", Provenance)
    assert isinstance(done, Done) and made is not None
    backbone = made.backbone_fingerprint
    elsewhere = replace(other, folder=task.folder.parent / "x", made_with=MadeWith(backbone, "c" * 64))
    again = train(Worker(), elsewhere, lambda _: None)
    assert isinstance(again, Failed) and "has another corpus than" in again.message
