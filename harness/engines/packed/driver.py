"""Drives trials through packs: what goes through the scheduler, and what has to train alone.

A trial is a generator (`Trial.steps`, or `trial_steps` with its record): it yields a training that is due and is sent
how that ended. So trials are written as if they were alone, and any number of them are under way.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from harness.engines.cut.prefixes import Prefixes
from harness.engines.packed.scheduler import PackScheduler
from harness.errors import as_failure
from harness.training.engine import Fitting
from harness.training.fit_plan import FitState

T = TypeVar("T")
Steps = Generator[Fitting, FitState, T]


@dataclass(frozen=True)
class Finished(Generic[T]):
    """A generator that has ended: the name it was started under, and what it returned or raised."""

    name: Any
    result: T | None = None
    error: BaseException | None = None


class PackDriver(Generic[T]):
    """Runs generators of trainings, those that can be packed together.

    Args:
        size: slots to a launch, at most.
        prefixes: those of the process.
        grows: whether packs begin with one slot and grow by what their launches take, on a CPU.
    """

    def __init__(self, size: int, prefixes: Prefixes, grows: bool = False) -> None:
        self.scheduler = PackScheduler(size, prefixes, grows)
        self._running: dict[int, tuple[Any, Steps[T], Fitting]] = {}
        self._finished: list[Finished[T]] = []

    def __len__(self) -> int:
        """How many trials are under way."""
        return len(self._running)

    @property
    def room(self) -> int:
        """How many more trials it has a use for now."""
        return self.scheduler.room

    def start(self, name: Any, steps: Steps[T]) -> None:
        """Start a trial. If it cannot be packed, it is trained here, to its end."""
        self._advance(name, steps, None)

    def run(self) -> list[Finished[T]]:
        """Take the next step of some trials under way; returns the trials that have ended since the last call."""
        if not self._finished:
            for ended in self.scheduler.run():
                name, steps, _ = self._running.pop(id(ended.fitting))
                self._advance(name, steps, ended.outcome)
        finished, self._finished = self._finished, []
        return finished

    def _advance(self, name: Any, steps: Steps[T], outcome: FitState | BaseException | None) -> None:
        try:
            while True:
                fitting = steps.throw(outcome) if isinstance(outcome, BaseException) else steps.send(cast(Any, outcome))
                if fitting.engine.execution.engine == "packed":
                    self._running[id(fitting)] = (name, steps, fitting)
                    self.scheduler.add(fitting)
                    return
                outcome = _fit(fitting)
        except StopIteration as end:
            self._finished.append(Finished(name, result=end.value))
        except BaseException as error:  # whoever reads `Finished` raises what is not the trial's own failure
            self._finished.append(Finished(name, error=error))

    def close(self) -> None:
        """Stop whatever is under way; it goes on from its checkpoints another time."""
        for _, steps, _ in self._running.values():
            steps.close()
        self._running = {}


def _fit(fitting: Fitting) -> FitState | BaseException:
    try:
        return fitting.fit()
    except BaseException as error:
        return as_failure(error)
