"""A worker in a Ray actor, and the driver's end of it: the same worker as in a local process, at a longer pipe.

The driver calls `send` with tasks and answers, and always has one `receive` open, which returns what the worker tells.
The actor keeps nothing that matters: whatever it was at goes on from the last checkpoint, elsewhere.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from shutil import rmtree
from time import monotonic
from typing import Any

from harness import __version__
from harness.backbones.recipe import backbone_cache
from harness.errors import first_line
from harness.launch.carried import Carried, Delivery, Unpacked, install
from harness.launch.events import Epoch, Failed, Note, Slots, TrialEvent
from harness.launch.remote_worker import Place, serve
from harness.launch.same_folder import sees
from harness.launch.task import TrialTask
from harness.records.provenance import package_versions

SCRATCH = "harness-ray-"  # in the folder for temporary files of a node
NUM_CALLS = 3  # of an actor at once: one waits for news, one sends, one to spare


@dataclass(frozen=True)
class Joined:
    """What a worker tells of itself: its machine, its versions, and whether it sees the launch's folder."""

    host: str
    pid: int
    versions: dict[str, str]
    sees_folder: bool


@dataclass(frozen=True)
class Gone:
    """The worker's own code has failed, which is no trial's failure."""

    message: str


def versions_here() -> dict[str, str]:
    """Versions that all workers of a launch must have in common; those of builds (`+cpu`) may differ."""
    versions = {"harness": __version__, **package_versions()}
    return {name: text.partition("+")[0] for name, text in versions.items() if name != "python"}  # Ray compares that


class TrialActor:
    """The actor; loads torch with the first task.

    Args:
        num_slots: trials under way in it at once, at most.
        path: where the driver finds modules of its user: what is there on this node is added to `sys.path`.
        cwd: the driver's current folder, from which paths in its files may start; entered where it is there.
    """

    def __init__(self, num_slots: int, path: Sequence[str], cwd: str) -> None:
        sys.path += [entry for entry in path if entry not in sys.path and os.path.exists(entry)]
        if os.path.isdir(cwd):
            os.chdir(cwd)
        self._pipe = _Pipe()
        threading.Thread(target=self._serve, args=(num_slots,), name="worker", daemon=True).start()

    def _serve(self, num_slots: int) -> None:
        try:
            serve(self._pipe, list(sys.path), None, num_slots, Place())
        except BaseException as error:  # Ray would not see the end of a thread, and the driver would wait for ever
            self._pipe.outgoing.put(Gone(f"{type(error).__name__}: {first_line(error)}"))

    def join(self, mark: tuple[str, str] | None) -> Joined:
        """Tell who it is; `mark` is the launch's folder, and what the mark in it holds."""
        return Joined(socket.gethostname(), os.getpid(), versions_here(), mark is None or sees(Path(mark[0]), mark[1]))

    def send(self, message: Carried | bool) -> None:
        """Take a task, or the answer to an epoch."""
        self._pipe.incoming.put(message)

    def receive(self) -> list[Delivery | Gone | Slots]:
        """Wait for news."""
        news = [self._pipe.outgoing.get()]
        while not self._pipe.outgoing.empty():
            news.append(self._pipe.outgoing.get())
        return news


class _Pipe:
    """What the worker sees as its connection."""

    def __init__(self) -> None:
        self.incoming: SimpleQueue[Carried | bool] = SimpleQueue()
        self.outgoing: SimpleQueue[Delivery | Gone | Slots] = SimpleQueue()
        self._unpacked: dict[Path, Unpacked] = {}
        self._scratch: Path | None = None
        self._num_unpacked = 0

    def poll(self) -> bool:
        return not self.incoming.empty()

    def recv(self) -> TrialTask | bool:
        message = self.incoming.get()
        if not isinstance(message, Carried):
            return message
        if message.backbone is not None:
            name, fetch = message.backbone
            install(backbone_cache() / "backbones" / name, fetch)
        if message.records is None:
            return message.task
        self._scratch = self._scratch or own_scratch()
        self._num_unpacked += 1
        unpacked = Unpacked(self._scratch / str(self._num_unpacked), message)
        self._unpacked[unpacked.task.folder] = unpacked
        return unpacked.task

    def send(self, event: TrialEvent | Slots) -> None:
        if isinstance(event, Slots):
            self.outgoing.put(event)
            return
        unpacked = self._unpacked.get(event.task.folder)
        self.outgoing.put(Delivery(event) if unpacked is None else unpacked.pack(event))
        if not isinstance(event, (Epoch, Note)):
            self._unpacked.pop(event.task.folder, None)


def own_scratch() -> Path:
    """A new folder, locked for this process; those of processes that have died are removed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        if (lock := _lock(folder)) is not None:  # nobody has it
            rmtree(folder, ignore_errors=True)
            os.close(lock)
    while True:
        made = Path(tempfile.mkdtemp(prefix=SCRATCH))
        if _lock(made) is not None and made.is_dir():  # else another process took it for a dead one's, just now
            return made


def _lock(folder: Path) -> int | None:
    """Lock a folder until this process ends, or closes the descriptor; None where another process has it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None  # another process is removing it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


class RayWorker:
    """The driver's end of an actor. Like a `RemoteWorker`, it has tasks, and may die at any time.

    Args:
        actor: a handle of a `TrialActor`.
        mark: see `TrialActor.join`.

    Attributes:
        joined: what it has told of itself; None until it has a place in the cluster.
        news: resolved when it has something to tell, or has died.
        is_lost: whether `receive` has found it dead.
        wanted: how many trials it has a use for at once, as far as it has told.
    """

    def __init__(self, actor: Any, mark: tuple[str, str] | None) -> None:
        self._actor = actor
        self.tasks: list[TrialTask] = []
        self.joined: Joined | None = None
        self.news = actor.join.remote(mark)
        self.is_lost = False
        self.wanted = 1
        self._began = monotonic()
        self._claims: dict[Path, ExitStack] = {}

    @property
    def age_s(self) -> float:
        """How long ago it was asked for."""
        return monotonic() - self._began

    def join(self) -> Joined:
        """Take what the worker tells of itself.

        Raises:
            RayError: it has died, or never lived.
        """
        import ray

        joined: Joined = ray.get(self.news)
        self.joined, self.news = joined, self._actor.receive.remote()
        return joined

    def send(self, carried: Carried, task: TrialTask, claims: ExitStack) -> None:
        """Have a task trained; `claims` are closed when it ends, or the worker does."""
        self.tasks.append(task)
        self._claims[task.folder] = claims
        self._actor.send.remote(carried)

    def answer(self, prune: bool) -> None:
        """Let the worker go on after an epoch, or prune."""
        self._actor.send.remote(prune)

    def receive(self) -> list[Delivery]:
        """The news; or, if the worker has died, that of the death of each of its trials."""
        import ray

        try:
            told: list[Delivery | Gone | Slots] = ray.get(self.news)
            failure = next((one.message for one in told if isinstance(one, Gone)), None)
        except ray.exceptions.RayError as error:
            told, failure = [], first_line(error)
        self.news = self._actor.receive.remote()
        self.wanted = next((one.number for one in reversed(told) if isinstance(one, Slots)), self.wanted)
        news = [self._ours(one) for one in told if isinstance(one, Delivery)]
        if failure is None:
            return news
        self.is_lost = True
        ray.kill(self._actor, no_restart=True)
        assert self.joined is not None
        message = f"its worker on {self.joined.host} (process {self.joined.pid}) is lost: {failure}"
        return [*news, *(Delivery(Failed(task, message, killed=True)) for task in self.tasks)]

    def _ours(self, delivery: Delivery) -> Delivery:
        """The news with the task as it was submitted."""
        task = next(task for task in self.tasks if task.folder == delivery.event.task.folder)
        return replace(delivery, event=replace(delivery.event, task=task))

    def drop(self, task: TrialTask) -> None:
        """Forget a task, which has ended."""
        self.tasks.remove(task)
        self._claims.pop(task.folder).close()

    def stop(self) -> None:
        import ray

        ray.kill(self._actor, no_restart=True)
        for task in [*self.tasks]:
            self.drop(task)
