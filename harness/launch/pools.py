"""Pools: where trials run. In this process, or in several local processes that survive each other's death.

A pool takes trials while others run, so that a search can decide what comes next from what has ended. Whoever owns it
submits, and pumps: events arrive inside `pump`, in the caller's thread.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import wait
from typing import Protocol, Self

from harness.launch.remote_worker import RemoteWorker
from harness.launch.worker import PackedWorker, TrialEvent, TrialTask

Tell = Callable[[TrialEvent], bool | None]  # for an `epoch` event, True means: prune the trial

RETRY_S = 0.2  # how often a trial that another process holds is tried again


class Pool(Protocol):
    """Trains tasks and tells their events; each task ends with one event that is neither `epoch` nor `note`.

    A trial that another process holds is put aside, tried again when nothing else is pending, and never told as `busy`.
    """

    @property
    def capacity(self) -> int:
        """How many trials may be in flight; grows by one for each trial that another process holds."""

    @property
    def num_in_flight(self) -> int:
        """How many trials are submitted and have not ended."""

    def submit(self, task: TrialTask) -> None:
        """Train a task, now or when its turn comes."""

    def pump(self, timeout_s: float | None = None) -> None:
        """Wait for events and tell them; returns after at least one, or when the time is up.

        It also returns when a trial turns out to be held by another process, since more may be submitted then.
        With nothing in flight it sleeps for the time given. An exception raised by `tell` comes out of here; a pool
        that it came out of can only be closed.
        """

    def close(self) -> None:
        """Stop whatever runs; unfinished trials go on from their checkpoints another time."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *args: object) -> None: ...


def launch(pool: Pool, tasks: Iterable[TrialTask]) -> None:
    """Train the tasks, as many at a time as the pool takes. An exception raised by the pool's `tell` stops it."""
    waiting = deque(tasks)
    while waiting or pool.num_in_flight:
        while waiting and pool.num_in_flight < pool.capacity:
            pool.submit(waiting.popleft())
        pool.pump()


class _Queue:
    """Submitted tasks that nobody trains yet: those whose turn comes, and those that another process holds."""

    def __init__(self) -> None:
        self.pending: deque[TrialTask] = deque()
        self.held: deque[tuple[float, TrialTask]] = deque()  # with the time at which it is tried again

    def __len__(self) -> int:
        return len(self.pending) + len(self.held)

    def hold(self, task: TrialTask) -> None:
        """Put a busy trial aside."""
        self.held.append((time.monotonic() + RETRY_S, task))

    def pop(self) -> TrialTask | None:
        """The next task to try; None when there is none yet."""
        if self.pending:
            return self.pending.popleft()
        if self.held and self.held[0][0] <= time.monotonic():
            return self.held.popleft()[1]
        return None

    def wait_s(self, deadline: float | None) -> float | None:
        """How long to wait for other things: until the deadline or the next retry; None is for ever."""
        times = [] if deadline is None else [deadline]
        if self.held and not self.pending:
            times.append(self.held[0][0])
        return max(0.0, min(times) - time.monotonic()) if times else None


class InProcessPool:
    """Trials in this process: one after another, or `num_slots` at a time where they can be packed.

    `pump` trains until one has ended (or the time is up, where others are under way).
    """

    def __init__(self, tell: Tell, num_slots: int = 1) -> None:
        self.num_slots = num_slots
        self._tell = tell
        self._queue = _Queue()
        self._worker: PackedWorker | None = None  # made with the first task: it loads torch

    @property
    def capacity(self) -> int:
        return self.num_slots + len(self._queue.held)

    @property
    def num_in_flight(self) -> int:
        return len(self._queue) + self._num_running

    @property
    def _num_running(self) -> int:
        return 0 if self._worker is None else len(self._worker)

    def submit(self, task: TrialTask) -> None:
        self._queue.pending.append(task)

    def pump(self, timeout_s: float | None = None) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            task = self._queue.pop() if self._num_running < self.num_slots else None
            if task is not None:
                if self._worker is None:  # one with nothing under way has length 0, so `or` would make another
                    self._worker = PackedWorker(self.num_slots, self._tell)
                self._worker.start(task)
            elif not self._num_running:
                pause_s = self._queue.wait_s(deadline)
                if pause_s is None:
                    return  # nothing in flight, and no time given
                time.sleep(pause_s)
            if self._worker is not None and self._hear(self._worker.run()):
                return
            if deadline is not None and time.monotonic() >= deadline:
                return

    def _hear(self, events: Sequence[TrialEvent]) -> bool:
        """Tell what has ended; whether there was anything."""
        for event in events:
            if event.kind == "busy":
                self._queue.hold(event.task)
            else:
                self._tell(event)
        return bool(events)

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None
        self._queue = _Queue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


class ProcessPool:
    """Several worker processes, each with one trial at a time, or `num_slots` where they can be packed.

    A worker that dies (killed, out of memory) costs its trials' current epochs only: they are reported as failed, a new
    worker takes the dead one's place, and the next launch goes on from the trials' checkpoints.

    Args:
        num_workers: processes are started as tasks come, up to this many.
        num_slots: trials under way in each.
    """

    def __init__(self, num_workers: int, tell: Tell, num_slots: int = 1) -> None:
        self.num_workers, self.num_slots = num_workers, num_slots
        self._tell = tell
        self._queue = _Queue()
        self._workers: list[RemoteWorker] = []
        self._context = multiprocessing.get_context("spawn")

    @property
    def capacity(self) -> int:
        return self.num_workers * self.num_slots + len(self._queue.held)

    @property
    def num_in_flight(self) -> int:
        return len(self._queue) + sum(len(worker.tasks) for worker in self._workers)

    def submit(self, task: TrialTask) -> None:
        self._queue.pending.append(task)
        self._assign()  # it starts at once if a worker has room, not at the next pump

    def pump(self, timeout_s: float | None = None) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._assign()
            training = [worker for worker in self._workers if worker.tasks]
            # A trial that is held elsewhere is tried when a worker has room; until then only events are waited for.
            has_room = sum(len(worker.tasks) for worker in training) < self.num_workers * self.num_slots
            pause_s = self._queue.wait_s(deadline) if has_room else _until(deadline)
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
        if any(event.reason == "killed" for event in events):
            self._workers.remove(worker)
            worker.stop()
        for event in events:
            if event.kind == "busy":
                self._queue.hold(event.task)
                continue
            answer = self._tell(event)
            if event.kind == "epoch":
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
            task = self._queue.pop()
            if task is None:
                return
            if may_start or chosen is None:
                chosen = RemoteWorker(self._context, self.num_slots)
                self._workers.append(chosen)
            chosen.send(task)

    def close(self) -> None:
        idle = [worker for worker in self._workers if not worker.tasks]
        for worker in idle:
            worker.dismiss()
        for worker in self._workers:
            if worker in idle:
                for event in worker.last_events():
                    self._tell(event)
            worker.stop()
        self._workers = []
        self._queue = _Queue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


def _until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
