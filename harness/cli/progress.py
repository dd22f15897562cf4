"""Progress on a terminal (bars) or in a log (plain lines), behind one interface."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Protocol, Self

from harness.sweep.worker import TrialEvent, TrialTask


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
