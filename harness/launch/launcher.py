"""The launcher seam: where trials run. Launchers are listed in harness/launch/launchers.py, one file each.

A launcher takes trials while others run, so that a search can decide what comes next from what has ended. Whoever owns
it submits, and pumps: events arrive inside `pump`, in the caller's thread.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

from harness.config.base import Settings
from harness.launch.events import TrialEvent
from harness.launch.stopping import Stop
from harness.launch.task import TrialTask

Tell = Callable[[TrialEvent], bool | None]  # for an `Epoch`, True means: prune the trial

RETRY_S = 0.2  # how often a trial that another process holds is tried again


class NoOptions(Settings):
    """The launcher has no options."""


class Launcher(ABC):
    """Trains tasks and tells their events; each task ends with one `Done` or `Failed`.

    A trial that another process holds is put aside, tried again when nothing else is pending, and never told as `Busy`.

    There are two kinds. Most train the tasks themselves. Those of `harness/launch/elsewhere.py` start `harness work`
    somewhere else, and tell of a task what its record says.

    Args:
        tell: called with every event. An exception that it raises comes out of `pump`; the launcher can then only be
            closed.
        num_workers: how many processes may train at once.
        num_slots: trials under way in each of them, at most, where they can be packed.
        options: of `options_type`; their defaults when None.

    Attributes:
        options_type: what may stand beside `name` under `launcher:` in a file.
        max_workers: more than so many it cannot have; None is any number.
        trains: whether it trains the tasks itself.
        is_here: whether it trains them in this process.
        loaded: what this process has loaded (harness.training.resources.Resources), by whether it is sealed.
        work: the arguments of the `harness work` that trains this launch's trials; empty where none can.
        stop: whether the launch has been asked to stop.
        began: when the command began to follow the records of a results folder, by the folder's clock.
    """

    options_type: ClassVar[type[Settings]] = NoOptions
    max_workers: ClassVar[int | None] = None
    trains: ClassVar[bool] = True
    is_here: ClassVar[bool] = False

    def __init__(self, tell: Tell, num_workers: int = 1, num_slots: int = 1, options: Any = None) -> None:
        self.tell, self.num_workers, self.num_slots = tell, num_workers, num_slots
        self.options: Any = self.options_type() if options is None else options
        self.queue = TaskQueue()
        self.work: tuple[str, ...] = ()
        self.stop = Stop()
        self.began: dict[Path, float] = {}
        self.loaded: dict[bool, Any] | None = None

    @classmethod
    def needs(cls) -> str | None:
        """What this machine lacks to use it, in words, or None; for `harness doctor` and before a launch."""
        return None

    @classmethod
    def check(cls, options: Any, num_workers: int) -> None:
        """Refuse, before anything starts, options that cannot work.

        Raises:
            UserError: one line with the option, its value and what it may be.
        """
        return None

    @classmethod
    def preview(cls, options: Any, num_workers: int, work: tuple[str, ...]) -> str | None:
        """What it would run elsewhere, as `harness plan` shows it; None where it runs nothing.

        Args:
            num_workers: how many it would start: of the workers wanted, those that there is a trial for.
        """
        return None

    @classmethod
    def get_ready(cls, recipes: Iterable[str]) -> None:
        """Begin, in the background, what its workers will need: something is going to be trained.

        Args:
            recipes: the backbones' recipes, by name or path.
        """
        return None

    @property
    def capacity(self) -> int:
        """How many trials may be in flight; grows by one for each trial that another process holds."""
        return self.num_workers * self.num_slots + len(self.queue.held)

    @property
    def num_in_flight(self) -> int:
        """How many trials are submitted and have not ended."""
        return len(self.queue) + self.num_running

    @property
    @abstractmethod
    def num_running(self) -> int:
        """How many trials are being trained."""

    def submit(self, task: TrialTask) -> None:
        """Train a task, now or when its turn comes."""
        self.queue.pending.append(task)

    @abstractmethod
    def pump(self, timeout_s: float | None = None) -> None:
        """Wait for events and tell them; returns after at least one, or when the time is up.

        It also returns when a trial turns out to be held by another process, since more may be submitted then.
        With nothing in flight it sleeps for the time given.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop whatever runs; unfinished trials go on from their checkpoints another time."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


def launch(launcher: Launcher, tasks: Iterable[TrialTask]) -> None:
    """Train the tasks, as many at a time as the launcher takes. An exception raised by its `tell` stops it."""
    waiting = deque(tasks)
    while waiting or launcher.num_in_flight:
        while waiting and launcher.num_in_flight < launcher.capacity:
            launcher.submit(waiting.popleft())
        launcher.pump()


def seconds_until(deadline: float | None) -> float | None:
    """How long it is until a time by `time.monotonic()`; None, for ever, where there is none."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


class TaskQueue:
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
        return seconds_until(min(times, default=None))
