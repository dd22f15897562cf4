"""A worker process and the pipe to it: tasks go one way, events and answers come back; it may die at any time.

On Linux a worker is forked from a process that has loaded torch and the training, and does nothing else (Python's fork
server). So it has no other process's threads, files or GPU, and starts in a moment: loading takes seconds, which the
workers of a search, its race and its confirm phase would spend again. One that trains on a GPU is a new process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from typing import Any, Literal, Protocol

from harness.errors import Passing, telling_interrupts
from harness.garbage import look_for_garbage_rarely
from harness.launch.events import Epoch, Failed, Note, Slots, TrialEvent
from harness.launch.task import TrialTask
from harness.launch.worker import PackedWorker

AHEAD, AHEAD_TRANSFORMERS = "harness.launch.ahead", "harness.launch.ahead_transformers"  # what the fork server loads
GRACE_S = 5.0  # for a worker that is asked to end


@dataclass(frozen=True)
class Place:
    """Where a worker process runs: its number among the workers, and the cores or the GPU that it has for itself."""

    number: int = 0
    cores: tuple[int, ...] = ()
    gpu: str | None = None

    def enter(self) -> None:
        """Take this process there; before torch looks for GPUs and counts its threads."""
        if self.cores:
            os.sched_setaffinity(0, self.cores)
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu


class RemoteWorker:
    """A worker process at the other end of a pipe.

    Args:
        num_slots: trials under way in it at once, at most.
        place: where it runs.
        forks: whether it may be forked from the server.

    Attributes:
        wanted: how many it has a use for at once, as far as it has told.
    """

    def __init__(self, num_slots: int, place: Place = Place(), forks: bool = True) -> None:
        self.place = place
        self.wanted = 1
        self.connection, far_end = multiprocessing.Pipe()
        arguments = (far_end, list(sys.path), dict(os.environ), num_slots, place)
        if forks and sys.platform == "linux":
            load_ahead()  # if nobody has done so
            try:
                self.process = _start("forkserver", arguments)
            except (EOFError, OSError):  # it could not start, or died at this moment (did memory run out?)
                self.process = _start("spawn", arguments)
        else:
            self.process = _start("spawn", arguments)
        far_end.close()
        self.tasks: list[TrialTask] = []

    def send(self, task: TrialTask) -> None:
        self.tasks.append(task)
        with suppress(OSError):  # it died just now: `receive` tells
            self.connection.send(task)

    def answer(self, prune: bool) -> None:
        """Let the worker go on after an epoch, or prune."""
        with suppress(OSError):  # as above
            self.connection.send(prune)

    def receive(self) -> list[TrialEvent]:
        """One event, or none where it tells how many trials it wants; one for each of its trials if it has died."""
        assert self.tasks
        try:
            event: TrialEvent | Slots = self.connection.recv()
        except (EOFError, OSError):  # the latter in the middle of a message
            self.process.join()
            tasks, self.tasks = self.tasks, []
            code = self.process.exitcode or 0
            how = f"was killed by signal {-code} (did memory run out?)" if code < 0 else f"ended with exit code {code}"
            return [Failed(task, f"its process {how}", killed=True) for task in tasks]
        if isinstance(event, Slots):
            self.wanted = event.number
            return []
        if not isinstance(event, (Epoch, Note)):
            self.tasks = [task for task in self.tasks if task.folder != event.task.folder]
        return [event]

    def stop(self) -> None:
        """End the process; it lets go of its trials first, unless it hangs."""
        self.connection.close()
        self.process.terminate()
        self.process.join(GRACE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _start(method: Literal["forkserver", "spawn"], arguments: tuple[Any, ...]) -> BaseProcess:
    context: Any = multiprocessing.get_context(method)
    process: BaseProcess = context.Process(target=serve, args=arguments, daemon=True)
    process.start()
    return process


def load_ahead(transformers: bool = False) -> None:
    """Begin to load what workers need, for a command that will start some; returns at once.

    Args:
        transformers: whether their backbones are models of transformers.
    """
    if sys.platform == "linux":
        # Heard when the server is started; one that runs stays as it is.
        forkserver.set_forkserver_preload([AHEAD, *([AHEAD_TRANSFORMERS] if transformers else [])])
        with suppress(OSError):  # its socket lies in $TMPDIR, which may be full, or have too long a name for one
            forkserver.ensure_running()


class _ParentGone(Passing):
    """Nobody is at the other end of the pipe."""


class Pipe(Protocol):
    """What a worker needs of a `Connection`; `recv` and `send` raise EOFError or OSError when nobody is there."""

    def recv(self) -> Any: ...
    def send(self, obj: Any, /) -> None: ...
    def poll(self) -> bool: ...


def serve(
    connection: Pipe, path: list[str], environment: Mapping[str, str] | None, num_slots: int, place: Place
) -> None:
    """The worker process: train what comes through the pipe until it closes.

    Args:
        path, environment: the parent's `sys.path` and environment variables as they are now, which are not those that
            the server began with; None leaves this process's own.
    """
    look_for_garbage_rarely()
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    place.enter()
    sys.path[:] = path  # a user's strategies are found from here as from the parent
    tasks: deque[TrialTask] = deque()

    def tell(event: TrialEvent) -> bool:
        try:
            connection.send(event)
            while isinstance(event, Epoch):  # while it waits for an answer, a task may come for another slot
                message = connection.recv()
                if not isinstance(message, TrialTask):
                    return bool(message)
                tasks.append(message)
            return False
        except (EOFError, OSError):
            raise _ParentGone from None

    with suppress(_ParentGone, EOFError, ConnectionError, KeyboardInterrupt), telling_interrupts(signal.SIGTERM):
        worker, wanted = PackedWorker(num_slots, tell), 1
        while True:
            while connection.poll() or not (tasks or len(worker)):
                tasks.append(connection.recv())
            while tasks and len(worker) < num_slots:
                worker.start(tasks.popleft())
                _tell_all(tell, worker.run())
            _tell_all(tell, worker.run())
            if worker.wanted != wanted:
                wanted = worker.wanted
                connection.send(Slots(wanted))


def _tell_all(tell: Callable[[TrialEvent], bool], events: Sequence[TrialEvent]) -> None:
    for event in events:
        tell(event)
