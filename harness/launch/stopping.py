"""Ask a launch to stop: trials under way end their epoch, keep their checkpoint, and are left to whoever comes next."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from harness.errors import Passing

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)  # the first from Kubernetes, Slurm and spot machines, the other from sbatch


class Stopped(Passing):
    """The launch has stopped because it was asked to; nothing has failed."""


class Pausing(Passing):
    """A trial is left at the end of an epoch, with its checkpoint, because its launch stops."""


class Stop:
    """Whether a launch is to stop, and why.

    Args:
        deadline: the time (`time.time()`) at which it is to stop by itself, and how a person wrote it.
    """

    def __init__(self, deadline: tuple[float, str] | None = None) -> None:
        self._deadline = deadline
        self._why: str | None = None

    @property
    def why(self) -> str | None:
        """Who or what asked for it, in words; None while nobody has."""
        if self._why is None and self._deadline is not None and time.time() >= self._deadline[0]:
            self._why = self._deadline[1]
        return self._why

    @property
    def asked(self) -> bool:
        return self.why is not None

    def ask(self, why: str) -> None:
        """Ask for it; the first reason stays."""
        self._why = self._why or why

    def check(self) -> None:
        """Raise `Stopped` where it was asked for."""
        if self.asked:
            raise Stopped(self.why)

    @contextmanager
    def by_signals(self) -> Iterator[None]:
        """While the block runs, `SIGNALS` ask for it instead of ending the process."""

        def take(number: int, frame: FrameType | None) -> None:
            self.ask(signal.Signals(number).name)

        before = {number: signal.signal(number, take) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
