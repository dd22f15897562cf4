"""The launcher over a Ray cluster of three nodes: a head that trains nothing, and two that may die.

What travels where there is no shared folder is tested without Ray as well: an actor is a plain object.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
from ray_nodes import RayNodes
from small_experiments import Plan, comparable, log_of, misbehaving, num_starts

from harness.errors import UserError
from harness.launch.carried import Carried, carried_records, record_files, store
from harness.launch.events import Done, Epoch, Failed, Note, Slots, TrialEvent
from harness.launch.in_process import InProcessLauncher
from harness.launch.launcher import launch
from harness.launch.ray_cluster import RayOptions, room_for
from harness.launch.ray_launcher import RayLauncher
from harness.launch.ray_worker import Gone, TrialActor, own_scratch
from harness.launch.task import TrialTask
from harness.records.failures import TRIES
from harness.records.schema import Provenance
from harness.records.trial_folder import TrialFolder

pytestmark = pytest.mark.slow

NUM_EPOCHS = 40
ARMS = {"head_only": {"train": "head", "adapter": None}, "adapters": {}, "noisy": {"adapter": {"dropout": 0.2}}}
LINEAR = {
    "_target_": "harness.adapters.LinearAdapter",
    "dim": 4,
    "adapter_strategy": {"_target_": "harness.adapters.ResidualAddAdapterStrategy"},
}
STACKED = {
    "adapter": None,
    "adapters": {"source": {"from": {"arm": "giver"}, "trainable": False}, "target": LINEAR},
}


@pytest.fixture
def nodes(ray_nodes: RayNodes) -> RayNodes:
    """The cluster with two nodes; this process is connected to no other one."""
    import ray

    if ray.is_initialized() and ray.get_runtime_context().gcs_address != ray_nodes.address:
        ray.shutdown()  # another test's own cluster
    ray_nodes.have_two()
    return ray_nodes


def options(nodes: RayNodes, **given: Any) -> RayOptions:
    return RayOptions(address=nodes.address, **given)


def test_a_node_that_dies_costs_its_trial_some_epochs_and_no_bit(
    nodes: RayNodes, plan: Plan, events: list[TrialEvent]
) -> None:
    """Without a shared folder: from the checkpoint that came back as bytes. tests/end_to_end has whole sweeps."""
    base = {"loop": {"epochs": NUM_EPOCHS}}
    tasks = plan(ARMS, base=base).pending
    launcher: RayLauncher
    last: dict[str, int] = {}  # the last epoch of each trial under way
    killed = False

    def hear(event: TrialEvent) -> None:
        nonlocal killed
        events.append(event)
        last.pop(event.task.title, None)
        if isinstance(event, Epoch) and not killed:
            last[event.task.title] = event.entry["epoch"]
            if len(last) == 2 and min(last.values()) >= 3:
                killed = True
                nodes.kill_one()
            else:
                time.sleep(0.3)  # the other one still loads torch

    with RayLauncher(hear, 2, 1, options(nodes, shared=False, checkpoint_s=0)) as launcher:
        launch(launcher, tasks)
    assert killed and {event.task.title for event in events if isinstance(event, Done)} == {t.title for t in tasks}
    (note,) = [event for event in events if isinstance(event, Note)]
    assert "is lost" in note.message and "goes on from its last checkpoint" in note.message

    alone = plan(ARMS, base=base, results="alone").pending
    with InProcessLauncher(lambda event: None) as other:
        launch(other, alone)
    for task, twin in zip(tasks, alone, strict=True):
        found, expected = TrialFolder(task.folder), TrialFolder(twin.folder)
        summaries = [found.summary(), expected.summary()]
        assert summaries[0] is not None and summaries[1] is not None
        assert comparable(summaries[0]) == comparable(summaries[1])
        assert log_of(found.path) == log_of(expected.path)
        for name in ("predictions.jsonl", "adapter.safetensors", "config.json"):
            assert found.read(name) == expected.read(name)
        made = [folder.files.model("provenance.json", Provenance) for folder in (found, expected)]
        assert made[0] is not None and made[1] is not None
        assert made[0].places == made[1].places and made[0].corpus_fingerprint == made[1].corpus_fingerprint
        assert made[0].num_starts == num_starts(task.folder) == (2 if task == note.task else 1)
        assert not found.checkpoint.exists() and not [*task.folder.glob(".*.tmp")]
    # It went on: what is told again was not trained again, or it would have taken other seconds.
    told = [event.entry for event in events if isinstance(event, Epoch) and event.task == note.task]
    before = told[: [entry["epoch"] for entry in told].index(1, 1)]
    again = told[len(before) :]
    assert len(before) >= 2 and again[: len(before) - 1] == before[:-1] and len(again) == NUM_EPOCHS


def test_what_a_trial_does_is_its_own_end_and_what_a_worker_does_is_not(
    nodes: RayNodes, plan: Plan, events: list[TrialEvent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN, memory and exceptions end in a record, and are tried as often as anywhere; what kills is given up."""
    monkeypatch.setattr("harness.launch.ray_launcher.MAX_LOSSES", 2)
    ended = {"nan": "nan", "memory": "oom", "raise": "error"}
    arms = {how: misbehaving(how) for how in ended} | {
        "killed": misbehaving("kill", call=5, marker=str(tmp_path / "once")),
        "deadly": misbehaving("kill"),
    }
    tasks = {task.run.arm: task for task in plan(arms).pending}
    with RayLauncher(events.append, 2, 1, options(nodes, shared=False, checkpoint_s=0)) as launcher:
        launch(launcher, tasks.values())
    done = {event.task.run.arm: event.summary for event in events if isinstance(event, Done)}
    assert {arm: (str(done[arm].state), done[arm].reason) for arm in ended} == {
        arm: ("failed", reason) for arm, reason in ended.items()
    }
    assert [num_starts(tasks[arm].folder) for arm in ended] == [1, TRIES["oom"], TRIES["error"]]
    traceback = tasks["raise"].folder / "traceback.txt"
    assert str(traceback) in str(done["raise"].message) and "a bug" in traceback.read_text(encoding="utf-8")
    assert done["killed"].state == "complete" and len(log_of(tasks["killed"].folder)) == 2
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert failed.task.run.arm == "deadly" and failed.killed and not failed.user_error
    assert "as 1 before" in failed.message and TrialFolder(failed.task.folder).summary() is None
    with TrialFolder(failed.task.folder).lock(wait=False) as free:
        assert free


def test_a_launch_that_cannot_work_is_refused_in_one_line(nodes: RayNodes, plan: Plan, tmp_path: Path) -> None:
    assert [room_for(options(nodes, cpus=cpus)) for cpus in (1, 0.5)] == [2, 4]
    with pytest.raises(UserError, match=r"a worker takes CPU 2, and no node has so much \(.*CPU 1, disk 2.*\)$"):
        room_for(options(nodes, cpus=2))
    with pytest.raises(UserError, match=r"a worker takes CPU 1, tape 1, and no node"):
        RayLauncher.check(options(nodes, resources={"tape": 1}), 1)
    assert room_for(options(nodes, resources={"tape": 1}, scales=True)) == 0
    (task,) = plan({"adapters": {"loop": {"device": "cuda"}}}).pending
    refused = pytest.raises(UserError, match=r"loop.device: cuda, but a worker takes no GPU; set launcher.gpus")
    with RayLauncher(lambda event: None, 1, 1, options(nodes)) as launcher, refused:
        launcher.submit(task)


def trained_elsewhere(actor: TrialActor, task: TrialTask) -> list[TrialEvent]:
    """Have a task trained by a worker that gets its records as bytes; returns its events."""
    actor.send(Carried(task, carried_records(task), Path.cwd(), 0))
    events: list[TrialEvent] = []
    while not events or isinstance(events[-1], (Epoch, Note)):
        for delivery in actor.receive():
            assert not isinstance(delivery, (Gone, Slots)), delivery  # it trains one after another
            store(delivery)
            events.append(delivery.event)
            if isinstance(delivery.event, Epoch):
                actor.send(False)
    return events


def test_weights_of_other_trials_travel_both_ways(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained first comes back too; then it is sent. The scratch folder is empty in the end."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    arms = {"giver": {}, "stacked": STACKED, "again": {**STACKED, "optim": {"lr": 0.5}}}
    giver, stacked, again = plan(arms).pending
    assert stacked.needs == (giver,) == again.needs
    actor = TrialActor(1, [], os.getcwd())
    first, *_, last = trained_elsewhere(actor, stacked)
    assert isinstance(first, Note) and isinstance(last, Done) and last.task == stacked
    given = record_files(giver.folder)
    _, *_, last = trained_elsewhere(actor, again)
    assert isinstance(last, Done) and last.summary.state == "complete"
    assert record_files(giver.folder) == given  # it was not trained again
    (scratch,) = tmp_path.glob("harness-ray-*")
    assert [*scratch.rglob("*")] == []

    alone = plan(arms, results="alone").pending
    with InProcessLauncher(lambda event: None) as launcher:
        launch(launcher, alone)
    for task, twin in zip((giver, stacked, again), alone, strict=True):
        found, expected = record_files(task.folder), record_files(twin.folder)
        assert found.keys() == expected.keys()
        same = found.keys() - {"summary.json", "provenance.json", "log.jsonl", "starts.jsonl", "adapter.json"}
        assert {"adapter.safetensors", "config.json"} <= same
        assert all(found[name] == expected[name] for name in same)
        made = TrialFolder(task.folder).files.model("provenance.json", Provenance)
        assert made is not None
        digests = {name: hashlib.sha256(found[name]).hexdigest() for name in made.files}
        assert digests == made.files


def test_the_scratch_folder_of_a_dead_worker_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "harness-ray-dead" / "1").mkdir(parents=True)
    mine = own_scratch()
    other = own_scratch()  # both are in use, by this process
    assert sorted(tmp_path.iterdir()) == sorted([mine, other])
