"""How far a search has come: the best score so far, and when it reached the target. Standard library only."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from measuring import Meter


class Progress:
    """A search against the clock, told the score of every epoch of every trial.

    Args:
        target: reached by the first score that is at least this.
        limit_s: when the search is given up.
    """

    def __init__(self, target: float, limit_s: float) -> None:
        self.target, self.limit_s = target, limit_s
        self.best: float | None = None
        self.reached_s: float | None = None
        self.num_epochs = 0
        self._began = 0.0

    def start(self, spent_s: float = 0.0) -> None:
        """Let the clock run; `spent_s` of the search's time are gone already."""
        self._began = time.perf_counter() - spent_s

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._began

    def take(self, score: float, at: float | None = None) -> None:
        """Take an epoch's score, which was there at a time of `time.perf_counter` (now, by default)."""
        at = time.perf_counter() if at is None else at
        self.num_epochs += 1
        self.best = score if self.best is None else max(self.best, score)
        if score >= self.target and (self.reached_s is None or at - self._began < self.reached_s):
            self.reached_s = at - self._began

    @property
    def is_over(self) -> bool:
        """Whether the target is reached, or the time used up."""
        return self.reached_s is not None or self.elapsed_s > self.limit_s


def write_search(path: str, progress: Progress, meters: list[Meter], **more: Any) -> None:
    """What a search hands back: its progress, and the costs of its parts together.

    A target that was reached after the limit was not reached.
    """
    reached = progress.reached_s
    content = {
        "reached_s": reached if reached is not None and reached <= progress.limit_s else None,
        "best": progress.best,
        "num_epochs": progress.num_epochs,
        "wall_s": sum(meter.wall_s for meter in meters),
        "cpu_s": sum(meter.cpu_s for meter in meters),
        "peak_mb": max(meter.peak_mb for meter in meters),
        **more,
    }
    Path(path).write_text(json.dumps(content), encoding="utf-8")
