"""The launcher that trains in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from harness.launch.events import Busy, TrialEvent
from harness.launch.launcher import Launcher, TaskQueue, Tell
from harness.launch.worker import PackedWorker


class InProcessLauncher(Launcher):
    """Trials in this process: one after another, or up to `num_slots` at a time where packs pay.

    `pump` trains until one has ended (or the time is up, where others are under way). Once it is to stop, no trial is
    begun, and when those under way have been left at the end of their epochs, it raises `Stopped`.
    """

    max_workers = 1
    is_here = True

    def __init__(self, tell: Tell, num_workers: int = 1, num_slots: int = 1, options: Any = None) -> None:
        super().__init__(tell, num_workers, num_slots, options)
        self._worker: PackedWorker | None = None  # made with the first task: it loads torch

    @property
    def num_running(self) -> int:
        return 0 if self._worker is None else len(self._worker)

    def pump(self, timeout_s: float | None = None) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if not self.num_running:
                self.stop.check()
            wanted = 1 if self._worker is None else self._worker.wanted
            task = self.queue.pop() if self.num_running < wanted and not self.stop.asked else None
            if task is not None:
                if self._worker is None:  # one with nothing under way has length 0, so `or` would make another
                    self._worker = PackedWorker(self.num_slots, self.tell, lambda: self.stop.asked, self.loaded)
                self._worker.start(task)
            elif not self.num_running:
                pause_s = self.queue.wait_s(deadline)
                if pause_s is None:
                    return  # nothing in flight, and no time given
                time.sleep(pause_s)
            if self._worker is not None and self._hear(self._worker.run()):
                return
            if deadline is not None and time.monotonic() >= deadline:
                return

    def _hear(self, events: Sequence[TrialEvent]) -> bool:
        """Tell what has ended; returns whether there was anything."""
        for event in events:
            if isinstance(event, Busy):
                self.queue.hold(event.task)
            else:
                self.tell(event)
        return bool(events)

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None
        self.queue = TaskQueue()
