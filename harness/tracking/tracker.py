"""The tracker seam: three verbs, a null object, a composite. A tracker never breaks or blocks a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.records.schema import Summary


@dataclass(frozen=True)
class TrialRun:
    """What a tracker is told of a trial when it starts.

    Attributes:
        phase: what the trial is for (search, confirm, baseline).
        number: of a search's trial.
        params: a search's values, by dotted key.
        again: whether the trial was started before, perhaps by a process that was killed.
    """

    trial_id: str
    experiment: str
    arm: str
    seed: int
    phase: str
    config: dict[str, Any] = field(default_factory=dict)
    number: int | None = None
    params: dict[str, Any] = field(default_factory=dict)
    again: bool = False

    @property
    def title(self) -> str:
        return f"{self.arm}/seed{self.seed}" if self.number is None else f"{self.arm}/trial{self.number}"


class Tracker(Protocol):
    """One trial's events: `start`, then `log` for each epoch, then `finish`."""

    def start(self, run: TrialRun) -> None:
        """A trial starts (or goes on: the epochs it already has are logged again)."""

    def log(self, entry: dict[str, Any]) -> None:
        """An epoch ended: {"epoch": int, "metrics": {name: value}, "seconds": float}."""

    def finish(self, summary: Summary) -> None:
        """The trial ended, in whatever state."""


class NullTracker:
    """Tracks nothing."""

    def start(self, run: TrialRun) -> None:
        """Do nothing."""

    def log(self, entry: dict[str, Any]) -> None:
        """Do nothing."""

    def finish(self, summary: Summary) -> None:
        """Do nothing."""


class CompositeTracker:
    """Tells several trackers, in order."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = tuple(trackers)

    def start(self, run: TrialRun) -> None:
        for tracker in self.trackers:
            tracker.start(run)

    def log(self, entry: dict[str, Any]) -> None:
        for tracker in self.trackers:
            tracker.log(entry)

    def finish(self, summary: Summary) -> None:
        for tracker in self.trackers:
            tracker.finish(summary)
