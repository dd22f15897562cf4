"""A worker process and the pipe to it: tasks go one way, events and answers come back; it may die at any time."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from harness.launch.worker import PackedWorker, TrialEvent, TrialTask

DISMISSED_S = 60.0  # longer than a worker waits for W&B


class RemoteWorker:
    """A worker process at the other end of a pipe.

    Args:
        context: of multiprocessing, that spawns.
        num_slots: trials under way in it at once.
    """

    def __init__(self, context: Any, num_slots: int) -> None:
        self.connection, far_end = context.Pipe()
        arguments = (far_end, list(sys.path), num_slots)
        self.process: SpawnProcess = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
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
        """One event; or, if the worker has died, one for each of its trials."""
        assert self.tasks
        try:
            event: TrialEvent = self.connection.recv()
        except (EOFError, OSError):  # the latter in the middle of a message
            self.process.join()
            tasks, self.tasks = self.tasks, []
            code = self.process.exitcode or 0
            how = f"was killed by signal {-code} (out of memory?)" if code < 0 else f"ended with exit code {code}"
            message = f"its process {how}; the same command goes on from its last epoch"
            return [TrialEvent("failed", task, message=message, reason="killed") for task in tasks]
        if event.kind not in ("epoch", "note"):
            self.tasks = [task for task in self.tasks if task.folder != event.task.folder]
        return [event]

    def dismiss(self) -> None:
        """Let a worker that has nothing to do end by itself: it waits for what W&B has not finished yet."""
        with suppress(OSError):  # it is dead already
            self.connection.send(None)

    def last_events(self) -> Iterable[TrialEvent]:
        """What a dismissed worker still has to tell; it has ended then, or its time is up."""
        deadline = time.monotonic() + DISMISSED_S
        with suppress(EOFError, OSError):
            while self.connection.poll(max(0.0, deadline - time.monotonic())):
                yield self.connection.recv()

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


class _ParentGone(BaseException):
    """Nobody is at the other end of the pipe. No failure of the trial, so nothing on the way may take it for one."""


def _serve(connection: Connection, path: list[str], num_slots: int) -> None:
    """The worker process: train what comes through the pipe until it closes."""
    sys.path[:] = path  # a user's strategies are found from here as from the parent
    sending = threading.Lock()  # a tracker's thread complains through the same pipe
    tasks: deque[TrialTask] = deque()

    def tell(event: TrialEvent) -> bool:
        try:
            with sending:
                connection.send(event)
            # Only this thread receives. While it waits for an answer, a task may come for another slot.
            while event.kind == "epoch":
                message = connection.recv()
                if not isinstance(message, TrialTask):
                    return bool(message)
                tasks.append(message)
            return False
        except (EOFError, OSError):
            raise _ParentGone from None

    with suppress(_ParentGone, EOFError, ConnectionError, KeyboardInterrupt):
        worker = PackedWorker(num_slots, tell)
        while True:
            while connection.poll() or not (tasks or len(worker)):
                message = connection.recv()
                if message is None:  # dismissed; it had nothing to do
                    worker.close()
                    return
                tasks.append(message)
            while tasks and len(worker) < num_slots:
                worker.start(tasks.popleft())
                _tell_all(tell, worker.run())
            _tell_all(tell, worker.run())


def _tell_all(tell: Callable[[TrialEvent], bool], events: Sequence[TrialEvent]) -> None:
    for event in events:
        tell(event)
