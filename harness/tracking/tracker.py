"""The tracker seam: what shows trials somewhere else than on disk. Trackers are listed in harness/tracking/trackers.py.

A tracker lives in the process that follows a launch (harness/tracking/follower.py). It is told what the records hold.
If it raises or hangs, no training notices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.base import content_hash
from harness.records.schema import Summary
from harness.records.trial_run import TrialRun
from harness.tracking.study import Study

Entry = Mapping[str, Any]  # {"epoch": int from 1, "metrics": {name: value}, "seconds": float}


@dataclass(frozen=True)
class TrackedTrial:
    """A trial as a tracker is told of it: its place in the experiment, and its config, as in its record."""

    run: TrialRun
    config: dict[str, Any]

    @property
    def trial_id(self) -> str:
        return self.run.trial_id


def trial_content(entries: Sequence[Entry], summary: Summary) -> str:
    """The hash of a trial's log and summary."""
    return content_hash([list(entries), summary.model_dump(mode="json")], length=16)


class TrialRefused(Exception):
    """A tracker cannot show this one trial; it still works for the others."""


class Tracker(ABC):
    """Shows the trials of one experiment or sweep: each is opened, gets its epochs in order, and is closed.

    Args:
        folder: `RESULTS/NAME`, for files of its own.
        fell_back: whether it failed earlier in this launch, so that it must use its fallback.

    Attributes:
        package: the package that it needs; the extra of this project that installs it has the tracker's name.
        num_at_once: how many trials it can be told of at the same time, each in a thread of its own.
        timeout_s: seconds that telling it of a trial may take; after that the tracker gives up this trial.
    """

    package: str | None = None
    num_at_once = 1
    timeout_s = 40.0

    def __init__(self, folder: Path, fell_back: bool = False) -> None:
        self.folder = folder.absolute()

    @abstractmethod
    def open(self, trial: TrackedTrial) -> int:
        """Begin to show a trial, or go on. Returns how many of its epochs an earlier launch has shown already.

        Raises:
            TrialRefused: this trial cannot be shown.
            Exception: the tracker failed.
        """

    @abstractmethod
    def log(self, trial: TrackedTrial, entries: Sequence[Entry]) -> None:
        """Show epochs that have ended."""

    @abstractmethod
    def close(self, trial: TrackedTrial, summary: Summary, content: str | None) -> None:
        """Show how the trial ended.

        Args:
            content: the hash of the log and the summary; None if the epochs that `open` found may be different ones.
        """

    def show_study(self, study: Study) -> None:  # noqa: B027  # not every tracker can show one
        """Show a finished sweep: its space, winners, tables and figures."""

    def fall_back(self) -> str | None:
        """After a failure, say how a new process goes on: it is started with `fell_back`, and shows open trials anew.

        None where there is no fallback; then only the trial is given up.
        """
        return None


class NullTracker(Tracker):
    """Shows nothing."""

    def open(self, trial: TrackedTrial) -> int:
        return 0

    def log(self, trial: TrackedTrial, entries: Sequence[Entry]) -> None:
        """Do nothing."""

    def close(self, trial: TrackedTrial, summary: Summary, content: str | None) -> None:
        """Do nothing."""
