"""Drives trials through a pack: what goes through the engine, and what has to train alone.

A trial is a generator (`Trial.steps`, or `trial_steps` with its record): it yields a training that is due and is sent
how that ended. So trials are written as if they were alone, and any number of them are under way.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from harness.config import TrialConfig
from harness.execution import Execution
from harness.training.loop import FitState
from harness.training.packed.engine import PackEngine
from harness.training.resources import Resources
from harness.training.trial import Fitting, Outcome, Trial

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
    """

    def __init__(self, size: int) -> None:
        self.engine = PackEngine(size)
        self._running: dict[int, tuple[Any, Steps[T], Fitting]] = {}
        self._finished: list[Finished[T]] = []

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._running)

    def start(self, name: Any, steps: Steps[T]) -> None:
        """Start one. If it cannot be packed it is trained here, to its end."""
        self._advance(name, steps, None)

    def run(self) -> list[Finished[T]]:
        """A little of everything that is under way; what has finished since the last call."""
        if not self._finished:
            for ended in self.engine.run():
                name, steps, _ = self._running.pop(id(ended.fitting))
                self._advance(name, steps, ended.outcome)
        finished, self._finished = self._finished, []
        return finished

    def _advance(self, name: Any, steps: Steps[T], outcome: FitState | BaseException | None) -> None:
        try:
            while True:
                fitting = steps.throw(outcome) if isinstance(outcome, BaseException) else steps.send(cast(Any, outcome))
                if fitting.engine == "packed":
                    self._running[id(fitting)] = (name, steps, fitting)
                    self.engine.add(fitting)
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
        return error


def fit_alone(fitting: Fitting) -> FitState:
    """Train one packable training as a pack of one.

    Raises:
        TrialError: see harness.training.loop.fit.
    """
    engine = PackEngine(1)
    engine.add(fitting)
    while True:
        for ended in engine.run():
            if isinstance(ended.outcome, BaseException):
                raise ended.outcome
            return ended.outcome


def train_packed(
    configs: Sequence[TrialConfig],
    resources: Resources,
    pack_size: int,
    engine: str = "packed",
) -> list[Outcome | BaseException]:
    """Train trials without records, `pack_size` of them at a time, a finished one's place taken by the next.

    Args:
        configs: any mix; those that cannot be packed train alone, behind their cut where they have one.
        resources: where they are not sealed, the outcomes have test metrics.
        pack_size: trials under way at once.
        engine: "packed", "cut" or "plain" (the last two one trial after another).

    Returns:
        Each config's outcome, or the exception that ended it, in their order.
    """
    execution = Execution.model_validate({"engine": engine, "pack": pack_size if engine == "packed" else 1})
    driver: PackDriver[Outcome] = PackDriver(pack_size)
    results: dict[int, Outcome | BaseException] = {}
    waiting = list(enumerate(configs))
    while waiting or len(driver) or len(results) < len(configs):
        while waiting and len(driver) < pack_size:
            number, config = waiting.pop(0)
            driver.start(number, Trial(config, resources, None, lambda entry: None, execution).steps())
        for done in driver.run():
            if done.error is not None and not isinstance(done.error, Exception):
                raise done.error
            results[done.name] = cast(Outcome, done.result) if done.error is None else done.error
    return [results[number] for number in range(len(configs))]
