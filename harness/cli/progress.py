"""How a launch is going: a line for each training that ends, and on a terminal a bar over all of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from harness.launch.events import Done, Epoch, Failed, Note, TrialEvent
from harness.launch.task import TrialTask
from harness.metrics import scored_metric

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from harness.records.schema import Summary
    from harness.records.search import Objective
    from harness.search.declaration import Sweep
    from harness.sweep.plan import SweepPlan


def run_progress(tasks: Sequence[TrialTask], quiet: bool) -> Progress:
    """Progress through trials that are all known beforehand: each is worth its epochs."""
    num_epochs = sum(map(epochs_of, tasks))
    return Progress(outcome_line, bool(tasks) and use_bars(quiet), num_planned=len(tasks), num_epochs=num_epochs)


def sweep_progress(sweep: Sweep, plan: SweepPlan, quiet: bool) -> Progress:
    """Progress through search and race, whose trainings are only known as they come: each is worth the same."""
    return Progress(
        lambda event: search_line(event, sweep.objectives),
        use_bars(quiet),
        num_done=plan.num_finished,
        num_planned=None if sweep.config.budget.trials is None else plan.num_searching,
        best=BestSoFar(sweep.objectives[0]),
    )


def use_bars(quiet: bool) -> bool:
    """Whether there is a terminal to draw bars on, and they are wanted."""
    return not quiet and sys.stdout.isatty()


def epochs_of(task: TrialTask) -> int:
    """The epochs that a trial may take: the measure of how much is left."""
    return 1 if task.config.train == "none" else task.config.loop.epochs


@dataclass
class BestSoFar:
    """The best training by an objective."""

    objective: Objective
    value: float | None = None
    title: str = ""

    def take(self, title: str, summary: Summary | None) -> None:
        """Keep a training that ended, if it is the best so far."""
        if summary is None or summary.state != "complete" or self.objective.metric not in summary.valid:
            return
        value, sign = summary.valid[self.objective.metric], 1 if self.objective.direction == "maximize" else -1
        if self.value is None or sign * value > sign * self.value:
            self.value, self.title = value, title

    def text(self) -> str:
        """Its score and title; empty before there is one."""
        return "" if self.value is None else f"best {score_text(self.objective.metric, self.value)} ({self.title})"


@dataclass
class Progress:
    """Hears the events of a launch, and shows them.

    Args:
        describe: how a training ended, in a line.
        bars: draw a bar; otherwise the lines count.
        num_done: trainings that were finished before.
        num_planned: trainings in all, at most; None where the budget is in seconds.
        num_epochs: epochs of all trainings, where they are known beforehand: then the bar counts epochs.
        best: takes every training that ends, and stands beside the bar.
    """

    describe: Callable[[Done | Failed], str]
    bars: bool = False
    num_done: int = 0
    num_planned: int | None = None
    num_epochs: int | None = None
    best: BestSoFar | None = None
    rich: Any = None
    bar: Any = None
    _under_way: dict[str, float] = field(default_factory=dict)  # trial -> what its epochs so far are worth

    def __post_init__(self) -> None:
        self._began, self._before = time.monotonic(), float(self.num_done)
        self._ended = self._before
        self._total = self.num_planned if self.num_epochs is None else self.num_epochs
        if self.bars:
            self.rich = make_bars("trainings" if self.num_epochs is None else "epochs")

    def __enter__(self) -> Self:
        if self.bars:
            self.rich.start()
            self.bar = self.rich.add_task("starting", total=self._total, completed=self._ended, best="")
        return self

    def __exit__(self, *details: object) -> None:
        if self.bars:
            self.rich.stop()

    def hear(self, event: TrialEvent) -> None:
        """Show an event."""
        task, key = event.task, event.task.run.trial_id
        worth = 1 if self.num_epochs is None else epochs_of(task)
        if isinstance(event, Note):
            self._print(event.message)  # how it goes: stderr is for what has failed in the end
        elif isinstance(event, Epoch):
            self._under_way[key] = min(worth, self._under_way.get(key, 0.0) + worth / epochs_of(task))
            self._draw(f"{task.title} epoch {event.entry['epoch']}")
        elif isinstance(event, (Done, Failed)):
            self._under_way.pop(key, None)
            self.num_done += 1
            self._ended += worth  # a trial that stopped early counts with all its epochs, as it has none left
            if self.best is not None:
                self.best.take(task.title, event.summary if isinstance(event, Done) else None)
            # Logs of workers that share a sweep are read side by side: a training stands in one of them as its own.
            whose = " (by another worker)" if isinstance(event, Done) and event.by_another else ""
            line = f"{task.title}: {self.describe(event)}{whose}"
            self._print(line if self.bars else f"{self._count()} {line}{self._time_left()}")
            self._draw(task.title)

    @property
    def completed(self) -> float:
        """How much is done, in epochs or trainings."""
        return self._ended + sum(self._under_way.values())

    def _print(self, line: str) -> None:
        if self.bars:
            self.rich.console.print(line, markup=False, highlight=False)
        else:
            print(line, flush=True)

    def _draw(self, description: str) -> None:
        if self.bars:
            best = "" if self.best is None else self.best.text()
            self.rich.update(self.bar, completed=self.completed, description=description, best=best)

    def _count(self) -> str:
        planned = "" if self.num_planned is None else f"/{max(self.num_planned, self.num_done)}"
        return f"[{self.num_done}{planned}]"

    def _time_left(self) -> str:
        if self._total is None:
            return ""
        seconds = (time.monotonic() - self._began) / (self.completed - self._before)
        at_most = "at most " if self.num_epochs is None else ""
        return f"; {at_most}about {seconds * max(0.0, self._total - self.completed):.0f} s left"


def make_bars(unit: str) -> RichProgress:
    """A bar that says what is trained, how far it is, how long it takes, and the best so far."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[best]}", markup=False),
    )


def outcome_line(event: Done | Failed) -> str:
    """One line about a trial that ended."""
    if isinstance(event, Failed):
        return f"failed: {event.message}"
    summary = event.summary
    if summary.state != "complete":
        return f"{summary.state.value}: {summary.reason}: {summary.message}"
    numbers = [
        score_text(name, value) for name, value in summary.metrics.items() if name.startswith(("target_", "source_"))
    ]
    what = "gives its weights to others" if event.task.run.is_sealed else ", ".join(numbers)
    return f"{what}  ({summary.epochs_run} epochs, {summary.costs['seconds']:.0f} s)"


def search_line(event: Done | Failed, objectives: Sequence[Objective]) -> str:
    """One line about a training of a search that ended."""
    if isinstance(event, Failed) or event.summary.state == "failed":
        return outcome_line(event)
    summary = event.summary
    if summary.state == "pruned":
        return f"pruned at epoch {summary.epochs_run}"
    names = dict.fromkeys([*(objective.metric for objective in objectives), "valid_forgetting"])
    scores = ", ".join(score_text(name, summary.valid[name]) for name in names if name in summary.valid)
    return f"{scores} ({summary.epochs_run} epochs, {summary.costs.get('seconds', 0.0):.0f} s)"


def score_text(name: str, value: float) -> str:
    """A metric for people: percent or points, and a loss, or what has a unit of its own, as it is."""
    if name.endswith("forgetting"):
        return f"forgetting {100 * value:.1f} points"
    known = scored_metric(name)
    is_share = not name.endswith("loss") and (known is None or known.unit == "%")
    return f"{name} {100 * value:.1f} %" if is_share else f"{name} {value:.3f}"
