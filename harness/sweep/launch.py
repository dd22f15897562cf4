"""Launchers: where trials run. In this process, or in several local processes that survive each other's death."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol

from harness.sweep.worker import TrialEvent, TrialTask, Worker

Tell = Callable[[TrialEvent], None]


class Launcher(Protocol):
    """Trains tasks and tells their events; each task ends with one event that is neither `epoch` nor `note`."""

    def launch(self, tasks: Sequence[TrialTask], tell: Tell) -> None:
        """Train the tasks. An exception raised by `tell` stops the launch."""


class InProcessLauncher:
    """One trial after another in this process. Trials that another launch holds come last, and are waited for."""

    def launch(self, tasks: Sequence[TrialTask], tell: Tell) -> None:
        worker = Worker()
        held_elsewhere = []
        for task in tasks:
            last = worker.train(task, tell)
            if last.kind == "busy":
                held_elsewhere.append(task)
            else:
                tell(last)
        for task in held_elsewhere:
            tell(worker.train(task, tell, wait=True))


class ProcessLauncher:
    """Several worker processes, one trial each at a time.

    A worker that dies (killed, out of memory) costs its trial's current epoch only: the trial is reported as failed,
    a new worker takes the dead one's place, and the next launch goes on from the trial's checkpoint.
    """

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers

    def launch(self, tasks: Sequence[TrialTask], tell: Tell) -> None:
        context = multiprocessing.get_context("spawn")
        pending = deque((task, False) for task in tasks)
        workers: list[_RemoteWorker] = []
        try:
            workers = [_RemoteWorker(context) for _ in range(min(self.num_workers, len(tasks)))]
            while pending or any(worker.task for worker in workers):
                for position, worker in enumerate(workers):
                    if worker.task is None and pending:
                        if not worker.process.is_alive():  # killed while it had nothing to do
                            worker.stop()
                            workers[position] = worker = _RemoteWorker(context)
                        worker.send(*pending.popleft())
                ready = wait([worker.connection for worker in workers if worker.task])
                for position, worker in enumerate(workers):
                    if worker.connection not in ready:
                        continue
                    event = worker.receive()
                    if event.kind == "busy":
                        pending.append((event.task, True))
                        continue
                    tell(event)
                    if not worker.process.is_alive() and worker.task is None and event.kind == "failed":
                        workers[position] = _RemoteWorker(context)
        finally:
            for worker in workers:
                worker.stop()


class _RemoteWorker:
    """A worker process at the other end of a pipe."""

    def __init__(self, context: Any) -> None:
        self.connection, far_end = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(far_end, list(sys.path)), daemon=True)
        self.process.start()
        far_end.close()
        self.task: TrialTask | None = None

    def send(self, task: TrialTask, patient: bool) -> None:
        self.task = task
        with suppress(OSError):  # it died just now: `receive` tells
            self.connection.send((task, patient))

    def receive(self) -> TrialEvent:
        assert self.task is not None
        try:
            event: TrialEvent = self.connection.recv()
        except (EOFError, OSError):  # the latter in the middle of a message
            self.process.join()
            task, self.task = self.task, None
            code = self.process.exitcode or 0
            how = f"was killed by signal {-code} (out of memory?)" if code < 0 else f"ended with exit code {code}"
            message = f"its process {how}; the same command goes on from its last epoch"
            return TrialEvent("failed", task, message=message)
        if event.kind not in ("epoch", "note"):
            self.task = None
        return event

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _serve(connection: Connection, path: list[str]) -> None:
    """The worker process: train what comes through the pipe until it closes."""
    sys.path[:] = path  # a user's strategies are found from here as from the parent
    worker = Worker()
    sending = threading.Lock()  # a tracker's thread complains through the same pipe

    def tell(event: TrialEvent) -> None:
        with sending:
            connection.send(event)

    while True:
        try:
            task, patient = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            tell(worker.train(task, tell, wait=patient))
        except (BrokenPipeError, KeyboardInterrupt):
            return
