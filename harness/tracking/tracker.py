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
    """A tracker cannot show this trial, and is well otherwise."""


class Tracker(ABC):
    """Shows the trials of one experiment or sweep: each is opened, gets its epochs in order, and is closed.

    Args:
        folder: `RESULTS/NAME`, for files of its own.
        fell_back: whether it has failed in this launch, and is to take its other way.

    Attributes:
        package: what has to be installed for it; the extra of this project that has it is named as the tracker is.
        num_at_once: of how many trials it may be told at the same time, from as many threads.
        timeout_s: how long it may take for what it is told at once of a trial, before it is given up for that trial.
    """

    package: str | None = None
    num_at_once = 1
    timeout_s = 40.0

    def __init__(self, folder: Path, fell_back: bool = False) -> None:
        self.folder = folder.absolute()

    @abstractmethod
    def open(self, trial: TrackedTrial) -> int:
        """Begin to show a trial, or go on; how many of its first epochs are shown already (of an earlier launch).

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
            content: the hash of the log and the summary; None where the epochs that `open` found may be others.
        """

    def show_study(self, study: Study) -> None:  # noqa: B027  # not every tracker can show one
        """Show a finished sweep: its space, winners, tables and figures."""

    def fall_back(self) -> str | None:
        """After a failure: say how a new process would go on (with `fell_back`), which shows anew what was open.

        None where there is no other way, and only the trial is given up.
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
