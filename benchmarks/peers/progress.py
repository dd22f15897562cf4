"""How far a search has come: the best score so far, and when it reached each target. Standard library only."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import Meter


class Progress:
    """A search against the clock, told the score of every epoch of every trial.

    Args:
        targets: each is reached by the first score that is at least as high.
        limit_s: when the search is given up.
    """

    def __init__(self, targets: Sequence[float], limit_s: float) -> None:
        self.targets, self.limit_s = tuple(targets), limit_s
        self.best: float | None = None
        self.reached_s: list[float | None] = [None] * len(self.targets)
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
        seconds = at - self._began
        for place, target in enumerate(self.targets):
            known = self.reached_s[place]
            if score >= target and (known is None or seconds < known):
                self.reached_s[place] = seconds

    @property
    def is_over(self) -> bool:
        """Whether every target is reached, or the time used up."""
        return None not in self.reached_s or self.elapsed_s > self.limit_s


def write_search(path: str, progress: Progress, meters: list[Meter], **more: Any) -> None:
    """What a search hands back: its progress, and the costs of its parts together.

    A target that was reached after the limit was not reached.
    """
    content = {
        "reached_s": [None if at is None or at > progress.limit_s else at for at in progress.reached_s],
        "best": progress.best,
        "num_epochs": progress.num_epochs,
        "wall_s": sum(meter.wall_s for meter in meters),
        "cpu_s": sum(meter.cpu_s for meter in meters),
        "peak_mb": max(meter.peak_mb for meter in meters),
        **more,
    }
    Path(path).write_text(json.dumps(content), encoding="utf-8")
