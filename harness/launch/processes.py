"""The launcher that trains in several local processes, which survive each other's death."""

from __future__ import annotations

import time
from multiprocessing.connection import wait

from harness.launch.events import Busy, Epoch, Failed
from harness.launch.launcher import Launcher, TaskQueue, Tell
from harness.launch.remote_worker import RemoteWorker
from harness.launch.task import TrialTask


class ProcessLauncher(Launcher):
    """Several worker processes, each with one trial at a time, or `num_slots` where they can be packed.

    A worker that dies (killed, out of memory) costs its trials' current epochs only: they are reported as failed, a new
    worker takes the dead one's place, and the next launch goes on from the trials' checkpoints.

    Processes are started as tasks come, up to `num_workers`.
    """

    def __init__(self, tell: Tell, num_workers: int = 1, num_slots: int = 1) -> None:
        super().__init__(tell, num_workers, num_slots)
        self._workers: list[RemoteWorker] = []

    def start_worker(self) -> RemoteWorker:
        """Start a worker process."""
        return RemoteWorker(self.num_slots)

    @property
    def num_running(self) -> int:
        return sum(len(worker.tasks) for worker in self._workers)

    def submit(self, task: TrialTask) -> None:
        super().submit(task)
        self._assign()  # it starts at once if a worker has room, not at the next pump

    def pump(self, timeout_s: float | None = None) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._assign()
            training = [worker for worker in self._workers if worker.tasks]
            # A trial that is held elsewhere is tried when a worker has room; until then only events are waited for.
            has_room = sum(len(worker.tasks) for worker in training) < self.num_workers * self.num_slots
            pause_s = self.queue.wait_s(deadline) if has_room else _until(deadline)
            if not training:
                if pause_s is None:
                    return  # nothing in flight, and no time given
                time.sleep(pause_s)
            else:
                ready = wait([worker.connection for worker in training], pause_s)
                for worker in training:
                    if worker.connection in ready:
                        self._hear(worker)
                if ready:
                    self._assign()
                    return
            if deadline is not None and time.monotonic() >= deadline:
                return

    def _hear(self, worker: RemoteWorker) -> None:
        """Take one message of a worker, or its death."""
        events = worker.receive()
        if any(isinstance(event, Failed) and event.killed for event in events):
            self._workers.remove(worker)
            worker.stop()
        for event in events:
            if isinstance(event, Busy):
                self.queue.hold(event.task)
                continue
            answer = self.tell(event)
            if isinstance(event, Epoch):
                worker.answer(bool(answer))

    def _assign(self) -> None:
        """Give tasks to the workers with most room, starting workers where there may be more."""
        while True:
            for dead in [w for w in self._workers if not w.tasks and not w.process.is_alive()]:
                self._workers.remove(dead)  # killed while it had nothing to do
                dead.stop()
            chosen = min(self._workers, key=lambda worker: len(worker.tasks), default=None)
            may_start = len(self._workers) < self.num_workers and (chosen is None or bool(chosen.tasks))
            if not may_start and (chosen is None or len(chosen.tasks) >= self.num_slots):
                return
            task = self.queue.pop()
            if task is None:
                return
            if may_start or chosen is None:
                chosen = self.start_worker()
                self._workers.append(chosen)
            chosen.send(task)

    def close(self) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers = []
        self.queue = TaskQueue()


def _until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
