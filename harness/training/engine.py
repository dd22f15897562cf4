"""The seam between a trial and what trains it: an engine. The plain one is here; faster ones are handed in.

    Trial.steps() -> Fitting (a training that is due) -> Engine.fit -> FitState -> Trial goes on and scores

All engines compute the same training: equal to 1e-12 in float64. What this package needs to know of one is below.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar, cast

from harness.backbones.model import TaskModel
from harness.config.execution import PLAIN, Execution
from harness.config.notes import Note
from harness.config.trial import AugmentSettings, LoopSettings, TrialConfig
from harness.data.corpus import Split
from harness.errors import as_failure
from harness.tasks.task import Evaluation, Item, Task, WholeTask
from harness.training.fit_plan import FitPlan, FitState
from harness.training.loop import fit
from harness.training.meta import MetaFit

T = TypeVar("T")


class Shared(Protocol):
    """What an engine asks of the frozen model and the items that trainings share (as Domains is).

    Trainings with the same object share frozen prefixes, and may share a pack.
    """

    @property
    def fingerprint(self) -> str:
        """Of the frozen model's weights."""

    @property
    def made_of(self) -> tuple[str, ...]:
        """Names of all that shapes what the frozen layers give for an item: model, preparation, data."""

    @property
    def plain_task(self) -> WholeTask:
        """The task without augmentation, which scores."""

    def task(self, augment: AugmentSettings | None) -> WholeTask:
        """The task whose training items are augmented."""

    def frozen_model(self, loop: LoopSettings) -> TaskModel:
        """The model without adapters, in eval mode; nothing trains it."""

    def items(self, domain: str, split: Split) -> Sequence[Item]:
        """All items of a split, in an order that does not change."""


class EpochScores(Protocol):
    """How a training is scored after each epoch (as Validation does)."""

    @property
    def names(self) -> tuple[str, ...]:
        """The domains that are scored."""

    def items(self, domain: str) -> Sequence[Item]:
        """The items of a domain that are scored."""

    def score(self, model: TaskModel, domain: str, task: Task | None = None) -> Evaluation:
        """Score a model on a domain's items; `task` makes the batches where the model takes others than the plain."""

    def epoch(self, score: Callable[[str], Evaluation]) -> dict[str, float]:
        """The scores of an epoch, by name; `score` evaluates a domain."""


class Engine(ABC):
    """How trainings are computed.

    Attributes:
        execution: its name and options, as asked for and as provenance tells it.
    """

    execution: Execution

    @abstractmethod
    def choose(self, config: TrialConfig, domains: Shared, model: TaskModel) -> tuple[Engine, str | None]:
        """The engine for one trial: this one, or the nearest that can train it, and why not this one.

        Args:
            config: of the trial.
            domains: its data and backbone.
            model: what the trial trains, adapters inserted.
        """

    @abstractmethod
    def fit(self, fitting: Fitting) -> FitState:
        """Train it, alone.

        Raises:
            TrialError: see harness.training.loop.fit.
        """


@dataclass(frozen=True, eq=False)
class Fitting:
    """A training that is due: all that an engine needs to know of the trial that it belongs to.

    Attributes:
        model: the weights that require a gradient are trained.
        items: of the training data.
        validation: what `plan.score_epoch` scores by; for an engine that scores in its own way.
        notes: what the record should tell; an engine may add to them.
        engine: the one that was chosen for it.
        sizes: of the parts of the items that are of one domain each, for a training by turns (meta.py); or None.
    """

    config: TrialConfig
    domains: Shared
    model: TaskModel
    task: Task
    items: Sequence[Item]
    plan: FitPlan
    validation: EpochScores
    notes: list[Note]
    engine: Engine
    sizes: tuple[int, ...] | None = None

    def fit(self) -> FitState:
        """Train it by its engine: see Engine.fit."""
        return self.engine.fit(self)


class PlainEngine(Engine):
    """The loop of harness/training/loop.py, which trains everything: the reference."""

    execution = PLAIN

    def choose(self, config: TrialConfig, domains: Shared, model: TaskModel) -> tuple[Engine, str | None]:
        return self, None

    def fit(self, fitting: Fitting) -> FitState:
        make = partial(MetaFit, sizes=fitting.sizes) if fitting.sizes is not None else None
        return fit(fitting.model, fitting.task, fitting.items, fitting.plan, make)


PLAIN_ENGINE = PlainEngine()


def drive(steps: Generator[Fitting, FitState, T]) -> T:
    """Train whatever a trial's steps yield, one training at a time; returns what the steps return."""
    try:
        fitting = next(steps)
        while True:
            try:
                state = fitting.fit()
            except BaseException as error:  # the trial's own code decides what becomes of it
                fitting = steps.throw(as_failure(error))
            else:
                fitting = steps.send(state)
    except StopIteration as end:
        return cast(T, end.value)
