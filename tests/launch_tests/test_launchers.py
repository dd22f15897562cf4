"""The contract of every launcher; and of those with processes, which may die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
from small_experiments import Plan, comparable, log_of, misbehaving, num_starts

from harness.config.execution import Execution
from harness.disk.process_identity import start_of
from harness.errors import UserError
from harness.launch import remote_worker
from harness.launch.events import Done, Epoch, Note, TrialEvent
from harness.launch.in_process import InProcessLauncher
from harness.launch.launcher import Launcher, Tell, launch
from harness.launch.launchers import LAUNCHERS, choose_launcher, launcher_type
from harness.launch.processes import ProcessLauncher, ProcessOptions, place_of
from harness.launch.remote_worker import Place
from harness.launch.run_experiment import run_experiment
from harness.launch.stopping import Stop, Stopped
from harness.launch.task import TrialTask
from harness.records.trial_folder import TrialFolder

pytestmark = pytest.mark.slow

THREE = {"frozen": {"train": "none", "adapter": None}, "head_only": {"train": "head", "adapter": None}, "adapters": {}}


def ends(events: list[TrialEvent]) -> list[tuple[str, str]]:
    """Class and title of each trial's last event, in order."""
    last = [event for event in events if not isinstance(event, (Epoch, Note))]
    return [(type(event).__name__, event.task.title) for event in last]


def epochs(events: list[TrialEvent]) -> list[Epoch]:
    return [event for event in events if isinstance(event, Epoch)]


def make_launcher(name: str, tell: Tell, num_workers: int = 1) -> Launcher:
    """With as many workers as asked for, or as it can have."""
    kind = launcher_type(name)
    return kind(tell, min(num_workers, kind.max_workers or num_workers))


TRAINING = [
    pytest.param(name, marks=pytest.mark.ray if name == "ray" else ())
    for name in LAUNCHERS
    if launcher_type(name).trains
]


@contextmanager
def held_elsewhere(task: TrialTask) -> Iterator[threading.Event]:
    """Hold a trial's lock, until the event is set or at the end."""
    holding, release = threading.Event(), threading.Event()

    def hold() -> None:
        with TrialFolder(task.folder).lock(wait=True) as held:
            assert held
            holding.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(60)
    yield release
    release.set()
    holder.join()


@pytest.mark.parametrize("name", TRAINING)
def test_one_worker_trains_in_the_order_of_submission(name: str, plan: Plan, events: list[TrialEvent]) -> None:
    with make_launcher(name, events.append) as launcher:
        launch(launcher, plan(THREE).pending)
    assert ends(events) == [("Done", f"{arm}/seed0") for arm in THREE]
    assert [event.task.run.arm for event in epochs(events)] == ["head_only"] * 2 + ["adapters"] * 2


@pytest.mark.parametrize("name", TRAINING)
def test_a_trial_that_another_launch_holds_comes_last_and_is_waited_for(
    name: str, plan: Plan, events: list[TrialEvent]
) -> None:
    tasks = plan(THREE).pending
    with held_elsewhere(tasks[0]) as release:

        def hear(event: TrialEvent) -> None:
            events.append(event)
            if ends(events)[-1:] == [("Done", "adapters/seed0")]:
                threading.Timer(0.2, release.set).start()

        with make_launcher(name, hear) as launcher:
            launch(launcher, tasks)
    assert ends(events) == [("Done", "head_only/seed0"), ("Done", "adapters/seed0"), ("Done", "frozen/seed0")]


@pytest.mark.parametrize("name", TRAINING)
def test_an_exception_of_the_listener_stops_the_launch(name: str, plan: Plan) -> None:
    tasks = plan(THREE).pending

    def leave(event: TrialEvent) -> None:
        if isinstance(event, Epoch):
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"), make_launcher(name, leave) as launcher:
        launch(launcher, tasks)
    finished = [TrialFolder(task.folder).summary() for task in tasks]
    assert finished[0] is not None and finished[1:] == [None, None]
    assert not (tasks[1].folder / "traceback.txt").exists()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("name", TRAINING)
def test_the_answer_to_an_epoch_prunes_the_trial(name: str, plan: Plan, events: list[TrialEvent]) -> None:
    """At the epoch that was asked for, and only the trial that was asked for."""
    tasks = plan({"head_only": THREE["head_only"], "adapters": {}}, base={"loop": {"epochs": 4}}).pending

    def prune(event: TrialEvent) -> bool | None:
        events.append(event)
        if not isinstance(event, Epoch):
            return None
        return event.task.run.arm == "head_only" and event.entry["epoch"] == 2

    with make_launcher(name, prune) as launcher:
        launch(launcher, tasks)
    assert [event.task.run.arm for event in epochs(events)] == ["head_only"] * 2 + ["adapters"] * 4
    summaries = [event.summary for event in events if isinstance(event, Done)]
    assert [(summary.state, summary.epochs_run) for summary in summaries] == [("pruned", 2), ("complete", 4)]


@pytest.mark.parametrize("name", TRAINING)
def test_tasks_are_submitted_while_others_run(name: str, plan: Plan, events: list[TrialEvent]) -> None:
    """Also from inside `tell`."""
    first, *others = plan({"adapters": {}, "head_only": THREE["head_only"], "frozen": THREE["frozen"]}).pending
    launcher = make_launcher(name, lambda event: None, 2)

    def hear(event: TrialEvent) -> None:
        events.append(event)
        assert launcher.num_in_flight <= launcher.capacity + 1
        if isinstance(event, Epoch) and others:
            launcher.submit(others.pop(0))

    launcher = make_launcher(name, hear, 2)
    with launcher:
        launcher.submit(first)
        assert (launcher.num_in_flight, launcher.capacity) == (1, launcher.num_workers)
        while launcher.num_in_flight:
            launcher.pump(60)
    assert {title for how, title in ends(events) if how == "Done"} == {
        "adapters/seed0",
        "head_only/seed0",
        "frozen/seed0",
    }


@pytest.mark.parametrize("name", TRAINING)
def test_a_pump_lasts_as_long_as_it_is_given(name: str, plan: Plan, events: list[TrialEvent]) -> None:
    """With nothing to do, and with a trial that another process holds, which makes room for another."""
    (task,) = plan({"frozen": THREE["frozen"]}).pending
    with make_launcher(name, events.append) as launcher:
        launcher.pump()
        began = time.monotonic()
        launcher.pump(0.3)
        assert 0.3 <= time.monotonic() - began < 5
        with held_elsewhere(task):
            launcher.submit(task)
            while launcher.capacity == 1:
                launcher.pump(0.05)
            assert (launcher.num_in_flight, launcher.capacity, events) == (1, 2, [])
            began = time.monotonic()
            launcher.pump(0.01)
            assert time.monotonic() - began < 5
        while launcher.num_in_flight:
            launcher.pump(60)
    assert ends(events) == [("Done", "frozen/seed0")] and launcher.capacity == 1


def test_two_processes_give_the_bits_of_one_also_after_a_kill(
    plan: Plan, events: list[TrialEvent], tmp_path: Path
) -> None:
    """A worker that is killed costs its trial an epoch: another one goes on with it, and that is told."""
    once = str(tmp_path / "once")
    arms = {"killed": misbehaving("kill", call=5, marker=once), **THREE, "noisy": {"adapter": {"dropout": 0.2}}}
    first = plan(arms)
    killed = first.pending[0]
    report = run_experiment(first, 2, events.append)
    assert sorted(ends(events)) == sorted(("Done", task.title) for task in first.pending)
    assert (report.failures, report.user_error, report.num_trained) == ([], None, 5)
    (note,) = (event.message for event in events if isinstance(event, Note))
    assert note.startswith("killed/seed0: ") and " signal 9 " in note and note.endswith("goes on from its last epoch")
    told = sorted((event.task.run.arm, event.entry["epoch"]) for event in epochs(events))
    once_each = [(arm, n) for arm in ("head_only", "adapters", "noisy", "killed") for n in (1, 2)]
    assert told == sorted([*once_each, ("killed", 1)])  # what its checkpoint holds is told again

    whole = plan(arms, results="whole")  # in one process; the marker is there, so that nothing is killed
    assert run_experiment(whole, 1, events.append).failures == []
    for task in first.pending:
        found, expected = (plan_.store.trial(task.config.trial_id) for plan_ in (first, whole))
        summaries = [found.summary(), expected.summary()]
        assert summaries[0] is not None and summaries[1] is not None
        assert comparable(summaries[0]) == comparable(summaries[1])
        assert log_of(found.path) == log_of(expected.path)
        assert (found.path / "predictions.jsonl").read_bytes() == (expected.path / "predictions.jsonl").read_bytes()
        assert num_starts(found.path) == (2 if task == killed else 1)


def test_a_launcher_in_this_process_keeps_its_worker(plan: Plan, events: list[TrialEvent]) -> None:
    """Its corpora and backbones are read once."""
    workers = []
    with InProcessLauncher(events.append) as launcher:
        for task in plan(THREE).pending:
            launcher.submit(task)
            launcher.pump()
            workers.append(launcher._worker)
    assert len(workers) == 3 and workers[0] is not None
    assert all(worker is workers[0] for worker in workers)


@pytest.mark.parametrize("how", ["kill", "leave"])
def test_a_worker_that_is_killed_is_replaced(how: str, plan: Plan, events: list[TrialEvent], tmp_path: Path) -> None:
    """A single one, so that nobody else could train what comes after: killed at work, then with nothing to do."""
    arms = {"killed": misbehaving(how, marker=str(tmp_path / "once")), "frozen": THREE["frozen"], "adapters": {}}

    def hear(event: TrialEvent) -> None:
        events.append(event)
        if isinstance(event, Done) and event.task.run.arm == "frozen":
            (worker,) = multiprocessing.active_children()
            worker.kill()
            worker.join()
        if isinstance(event, Epoch) and event.task.run.arm == "adapters":
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"), ProcessLauncher(hear) as launcher:
        launch(launcher, plan(arms).pending)
    assert ends(events) == [("Done", "killed/seed0"), ("Done", "frozen/seed0")]
    assert sum(isinstance(event, Note) for event in events) == 1  # a death with nothing to do concerns no trial
    assert isinstance(events[-1], Epoch) and events[-1].task.run.arm == "adapters"
    assert multiprocessing.active_children() == []  # the last one was stopped, not left behind


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked from a server on Linux alone")
def test_what_workers_are_forked_from_has_one_thread_and_all_that_they_need() -> None:
    """A fork has but the thread that forks, and what others held would stay locked in it for ever."""
    code = (
        "import os, sys, harness.launch.ahead, harness.launch.ahead_transformers; "
        "print(len(os.listdir('/proc/self/task'))); "
        "print([name for name in ('torch', 'harness.training.run_trial', 'harness.engines.packed.steps', "
        "'transformers.modeling_utils') if name not in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1", "[]"]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked from a server on Linux alone")
def test_a_launch_survives_the_server_that_its_workers_are_forked_from(
    plan: Plan, events: list[TrialEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while a worker trains; later, when one is to be started; and one that cannot be started itself."""
    servers = []

    def hear(event: TrialEvent) -> None:
        events.append(event)
        if isinstance(event, Epoch) and event.entry["epoch"] == 1:
            (worker,) = multiprocessing.active_children()
            servers.append(parent_of(worker.pid or 0))
            if len(servers) == 1:
                os.kill(servers[0], signal.SIGKILL)

    def no_socket() -> None:
        raise OSError("AF_UNIX path too long")

    def start(method: Any, arguments: Any) -> Any:
        if method == "forkserver":
            raise EOFError
        return started(method, arguments)

    started = remote_worker._start
    for number in range(3):
        if number == 2:
            monkeypatch.setattr(remote_worker, "_start", start)
            monkeypatch.setattr(forkserver, "ensure_running", no_socket)  # that of load_ahead
        with ProcessLauncher(hear) as launcher:
            launch(launcher, plan({"adapters": {"optim": {"lr": 0.01 * (1 + number)}}}).pending)
    assert ends(events) == [("Done", "adapters/seed0")] * 3 and len(epochs(events)) == 6
    assert not any(isinstance(event, Note) for event in events)  # nobody died
    assert len({*servers, os.getpid()}) == 3 and servers[2] == os.getpid()


def launch_and_die(tasks: list[TrialTask], note: Path) -> None:
    """Be killed at the first epoch, after writing down who trains."""

    def die(event: TrialEvent) -> None:
        if isinstance(event, Epoch):
            (worker,) = multiprocessing.active_children()
            note.write_text(str(worker.pid), encoding="utf-8")
            os.kill(os.getpid(), signal.SIGKILL)

    with ProcessLauncher(die) as launcher:
        launch(launcher, tasks)


def test_a_worker_whose_parent_was_killed_ends(plan: Plan, tmp_path: Path) -> None:
    """And leaves its trial unfinished, to whoever comes next."""
    (task,) = plan({"adapters": {}}).pending
    note = tmp_path / "worker"
    parent = multiprocessing.get_context("spawn").Process(target=launch_and_die, args=([task], note))
    parent.start()
    parent.join(60)
    assert parent.exitcode == -signal.SIGKILL
    worker, deadline = int(note.read_text(encoding="utf-8")), time.monotonic() + 30
    while start_of(worker) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert TrialFolder(task.folder).summary() is None and len(log_of(task.folder)) == 1


def test_which_launcher() -> None:
    assert [choose_launcher(None, jobs).kind for jobs in (1, 2)] == [InProcessLauncher, ProcessLauncher]
    assert choose_launcher("processes", 1).kind is ProcessLauncher
    with pytest.raises(UserError, match=r"--jobs 2: .* in_process "):
        choose_launcher("in_process", 2)
    with pytest.raises(UserError, match=f"--launcher 'slurn'; choices: {', '.join(LAUNCHERS)}"):
        choose_launcher("slurn", 1)


def test_a_file_may_choose_the_launcher() -> None:
    pinned = {"name": "processes", "pin": "cores"}
    assert choose_launcher(None, 1, "processes").kind is ProcessLauncher
    assert choose_launcher(None, 1, pinned).options == ProcessOptions(pin="cores")
    assert choose_launcher("processes", 1, pinned).options == ProcessOptions(pin="cores")
    assert choose_launcher("processes", 1, {"pin": "cores"}).options == ProcessOptions(pin="cores")
    assert choose_launcher("in_process", 1, pinned).kind is InProcessLauncher  # the option replaces the file's


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("proceses", r"f\.yaml: launcher: unknown launcher 'proceses'; choices: .*Did you mean processes\?$"),
        ({"pin": "cores"}, r"f\.yaml: launcher: name: missing; choices: in_process, processes"),
        ({"name": "processes", "pim": "cores"}, r"f\.yaml: launcher: pim: unknown key 'pim'; choices: pin\."),
        ({"name": "processes", "pin": "core"}, r"f\.yaml: launcher: pin: .*'cores', 'gpus' or 'none'.*'core'"),
        ({"name": "in_process", "pin": "cores"}, r"f\.yaml: launcher: pin: unknown key 'pin'"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(setting: str | dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_launcher(None, 1, setting, "f.yaml: launcher")


def test_each_pinned_worker_has_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4, 5, 6, 7})
    assert [place_of(n, 2, "cores", "cpu").cores for n in (0, 1)] == [(4, 5), (6, 7)]
    assert [place_of(n, 6, "cores", "cpu").cores for n in range(6)] == [(4,), (5,), (6,), (7,), (4,), (5,)]
    monkeypatch.setattr("harness.launch.processes.visible_gpus", lambda: ["2", "5"])
    assert [place_of(n, 3, "gpus", "cpu").gpu for n in range(3)] == ["2", "5", "2"]
    assert [place_of(1, 2, None, device).gpu for device in ("cuda", "cuda:0", "cpu")] == ["5", None, None]
    monkeypatch.setattr("harness.launch.processes.visible_gpus", lambda: ["2"])
    assert place_of(1, 2, None, "cuda") == Place(1)  # one GPU is shared without being told


def test_a_worker_enters_its_place(plan: Plan, events: list[TrialEvent]) -> None:
    core = min(os.sched_getaffinity(0))
    seen = []

    def hear(event: TrialEvent) -> None:
        events.append(event)
        (worker,) = multiprocessing.active_children()
        seen.append(os.sched_getaffinity(worker.pid or 0))

    with choose_launcher("processes", 1, {"pin": "cores"}).make(hear) as launcher:
        launch(launcher, plan({"frozen": THREE["frozen"]}).pending)
    assert ends(events) == [("Done", "frozen/seed0")]
    assert seen == [set(os.sched_getaffinity(0))] and core in seen[0]


def test_a_launch_that_is_to_stop_leaves_its_trials_at_the_end_of_an_epoch(
    plan: Plan, events: list[TrialEvent]
) -> None:
    """Of two trials in a pack as well; and the next launch goes on to the same bits."""
    arms = {"one": {}, "two": {"adapter": {"dropout": 0.2}}, "later": {"optim": {"lr": 0.03}}}
    tasks = [replace(task, execution=Execution(engine="packed", pack=2)) for task in plan(arms).pending]
    stop = Stop()

    def hear(event: TrialEvent) -> None:
        events.append(event)
        if isinstance(event, Epoch) and event.task.run.arm == "two":  # which joins when the first one's epoch has ended
            stop.ask("a test")

    choice = replace(choose_launcher("in_process", 1), stop=stop)
    with pytest.raises(Stopped, match="a test"), choice.make(hear, 2) as launcher:
        launch(launcher, tasks)
    told = [(event.task.run.arm, event.entry["epoch"]) for event in epochs(events)]
    assert sorted(told) == [("one", 1), ("one", 2), ("two", 1)]
    assert ends(events) == [] and [len(log_of(task.folder)) for task in tasks[:2]] == [2, 1]
    assert all(TrialFolder(task.folder).checkpoint.is_file() for task in tasks[:2]) and not tasks[2].folder.exists()
    with pytest.raises(Stopped):
        choice.make(hear, 2)
    with choose_launcher("in_process", 1).make(events.append, 2) as launcher:
        launch(launcher, tasks)
    whole = [replace(task, execution=tasks[0].execution) for task in plan(arms, results="whole").pending]
    with choose_launcher("in_process", 1).make(lambda event: None, 2) as launcher:
        launch(launcher, whole)
    for task, other in zip(tasks, whole, strict=True):
        found, expected = TrialFolder(task.folder).summary(), TrialFolder(other.folder).summary()
        assert found is not None and expected is not None and comparable(found) == comparable(expected)
        assert (task.folder / "predictions.jsonl").read_bytes() == (other.folder / "predictions.jsonl").read_bytes()
    assert [num_starts(task.folder) for task in tasks] == [2, 2, 1]


def test_signals_ask_a_launch_to_stop_and_time_does() -> None:
    stop = Stop()
    before = signal.getsignal(signal.SIGTERM)
    with stop.by_signals():
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.why == "SIGUSR2"
    assert signal.getsignal(signal.SIGTERM) is before
    assert not Stop((time.time() + 60, "in a minute")).asked
    assert Stop((time.time() - 1, "a second ago")).why == "a second ago"
