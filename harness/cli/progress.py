"""Progress on a terminal (bars) or in a log (plain lines), behind one interface."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from harness.launch.worker import TrialEvent, TrialTask

if TYPE_CHECKING:
    from harness.records.schema import Summary
    from harness.records.search import Objective
    from harness.search.declaration import Sweep
    from harness.sweep.plan import SweepPlan


class Progress(Protocol):
    """Shows how a launch is going."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def hear(self, event: TrialEvent) -> None:
        """Show an event."""


def make_progress(tasks: tuple[TrialTask, ...], quiet: bool) -> Progress:
    """Bars on a terminal; plain lines otherwise, or when asked to be quiet."""
    if quiet or not sys.stdout.isatty() or not tasks:
        return PlainProgress(tasks)
    return BarProgress(tasks)


def outcome_line(event: TrialEvent) -> str:
    """One line about a trial that ended."""
    summary = event.summary
    if summary is None:
        return f"failed: {event.message}"
    if summary.state != "complete":
        return f"{summary.state.value}: {summary.reason}: {summary.message}"
    numbers = [
        f"{name} {100 * value:.1f} %"
        for name, value in summary.metrics.items()
        if name.startswith(("target_", "source_"))
    ]
    return f"{', '.join(numbers)}  ({summary.epochs_run} epochs, {summary.costs['seconds']:.0f} s)"


def epochs_of(task: TrialTask) -> int:
    """The epochs that a trial may take: the measure of how much is left."""
    return 1 if task.config.train == "none" else task.config.loop.epochs


class PlainProgress:
    """One line a finished trial."""

    def __init__(self, tasks: tuple[TrialTask, ...]) -> None:
        self.num_tasks = len(tasks)
        self.num_done = 0
        self.epochs_done = 0
        self.num_epochs = sum(map(epochs_of, tasks))
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        return None

    def hear(self, event: TrialEvent) -> None:
        if event.kind == "note":
            print(event.message, file=sys.stderr, flush=True)
        if event.kind not in ("done", "failed"):
            return
        self.num_done += 1
        self.epochs_done += epochs_of(event.task)
        left = (time.monotonic() - self.began) / self.epochs_done * (self.num_epochs - self.epochs_done)
        print(
            f"[{self.num_done}/{self.num_tasks}] {event.task.title}: {outcome_line(event)}; about {left:.0f} s left",
            flush=True,
        )


class BarProgress:
    """A bar over all epochs, and a line for each trial that ends."""

    def __init__(self, tasks: tuple[TrialTask, ...]) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.tasks = tasks
        self.rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self.epochs_of = {task.run.trial_id: epochs_of(task) for task in tasks}
        self.seen: dict[str, int] = {}
        self.bar: Any = None

    def __enter__(self) -> Self:
        self.rich.start()
        self.bar = self.rich.add_task("starting", total=sum(self.epochs_of.values()))
        return self

    def __exit__(self, *details: object) -> None:
        self.rich.stop()

    def hear(self, event: TrialEvent) -> None:
        key = event.task.run.trial_id
        if event.kind == "epoch":
            self.seen[key] = self.seen.get(key, 0) + 1
            self.rich.update(self.bar, description=event.task.title)
        elif event.kind == "note":
            self.rich.console.print(event.message, markup=False, highlight=False)
        elif event.kind in ("done", "failed"):
            self.seen[key] = self.epochs_of[key]  # early stopping leaves the rest of its epochs
            self.rich.console.print(f"{event.task.title}: {outcome_line(event)}", markup=False, highlight=False)
        self.rich.update(self.bar, completed=sum(self.seen.values()))


def sweep_progress(sweep: Sweep, plan: SweepPlan, quiet: bool) -> Progress:
    """Progress of a sweep's search and race: a bar over trainings on a terminal, else a line a training."""
    kind = PlainSweepProgress if quiet or not sys.stdout.isatty() else BarSweepProgress
    in_seconds = sweep.config.budget.trials is None
    return kind(sweep.objectives, plan.num_finished, None if in_seconds else plan.num_searching)


def score_text(name: str, value: float) -> str:
    """A validation metric for people: percent or points, and a loss as it is."""
    if name.endswith("forgetting"):
        return f"forgetting {100 * value:.1f} points"
    return f"{name} {value:.3f}" if name.endswith("loss") else f"{name} {100 * value:.1f} %"


def search_line(event: TrialEvent, objectives: tuple[Objective, ...]) -> str:
    """One line about a training of a search that ended."""
    summary = event.summary
    if summary is not None and summary.state == "pruned":
        return f"pruned at epoch {summary.epochs_run}"
    if summary is None or summary.state != "complete":
        return outcome_line(event)
    names = dict.fromkeys([*(objective.metric for objective in objectives), "valid_forgetting"])
    scores = ", ".join(score_text(name, summary.valid[name]) for name in names if name in summary.valid)
    return f"{scores} ({summary.epochs_run} epochs, {summary.costs.get('seconds', 0.0):.0f} s)"


class _BestSoFar:
    """The best training by the first objective."""

    def __init__(self, objectives: tuple[Objective, ...]) -> None:
        self.objective = objectives[0]
        self.value: float | None = None
        self.title = ""

    def take(self, title: str, summary: Summary | None) -> None:
        """Look at a training that ended."""
        if summary is None or summary.state != "complete" or self.objective.metric not in summary.valid:
            return
        value, sign = summary.valid[self.objective.metric], 1 if self.objective.direction == "maximize" else -1
        if self.value is None or sign * value > sign * self.value:
            self.value, self.title = value, title

    def text(self) -> str:
        """What it is; empty before there is one."""
        return "" if self.value is None else f"best {score_text(self.objective.metric, self.value)} ({self.title})"


class PlainSweepProgress:
    """One line a finished training.

    Args:
        num_finished: trainings that were there before.
        num_planned: of search and race, at most; None where the budget is in seconds.
    """

    def __init__(self, objectives: tuple[Objective, ...], num_finished: int, num_planned: int | None) -> None:
        self.objectives, self.num_done, self.num_planned = objectives, num_finished, num_planned
        self.num_before = num_finished
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        return None

    def hear(self, event: TrialEvent) -> None:
        if event.kind == "note":
            print(event.message, file=sys.stderr, flush=True)
        if event.kind not in ("done", "failed"):
            return
        self.num_done += 1
        count, left = str(self.num_done), ""
        if self.num_planned is not None:
            num_left = max(0, self.num_planned - self.num_done)
            count = f"{self.num_done}/{self.num_done + num_left}"
            seconds = (time.monotonic() - self.began) / (self.num_done - self.num_before) * num_left
            left = f"; at most about {seconds:.0f} s left"
        print(f"[{count}] {event.task.title}: {search_line(event, self.objectives)}{left}", flush=True)


class BarSweepProgress:
    """A bar over trainings with the best so far, and a line for each training that ends. Arguments: as above."""

    def __init__(self, objectives: tuple[Objective, ...], num_finished: int, num_planned: int | None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.objectives, self.num_done, self.num_planned = objectives, num_finished, num_planned
        self.best = _BestSoFar(objectives)
        self.rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[best]}", markup=False),
        )
        self.bar: Any = None

    def __enter__(self) -> Self:
        self.rich.start()
        self.bar = self.rich.add_task("starting", total=self.num_planned, completed=self.num_done, best="")
        return self

    def __exit__(self, *details: object) -> None:
        self.rich.stop()

    def hear(self, event: TrialEvent) -> None:
        title = event.task.title
        if event.kind == "epoch" and event.entry is not None:
            self.rich.update(self.bar, description=f"{title} epoch {event.entry.get('epoch', '')}")
        elif event.kind == "note":
            self.rich.console.print(event.message, markup=False, highlight=False)
        elif event.kind in ("done", "failed"):
            self.num_done += 1
            self.best.take(title, event.summary)
            line = f"{title}: {search_line(event, self.objectives)}"
            self.rich.console.print(line, markup=False, highlight=False)
            self.rich.update(self.bar, completed=self.num_done, description=title, best=self.best.text())
