"""The null tracker and the composite."""

from __future__ import annotations

from typing import Any

import pytest

from harness.records.schema import Summary, TrialState
from harness.tracking.tracker import CompositeTracker, NullTracker, Tracker, TrialRun

RUN = TrialRun("abc", "experiment", "arm", 3, "confirm", {"seed": 3})
SUMMARY = Summary(trial_id="abc", state=TrialState.COMPLETE)


class Diary:
    """Writes down what it is told."""

    def __init__(self, name: str, lines: list[Any]) -> None:
        self.name, self.lines = name, lines

    def start(self, run: TrialRun) -> None:
        self.lines.append((self.name, "start", run))

    def log(self, entry: dict[str, Any]) -> None:
        self.lines.append((self.name, "log", entry))

    def finish(self, summary: Summary) -> None:
        self.lines.append((self.name, "finish", summary))


def tell_a_trial(tracker: Tracker) -> None:
    tracker.start(RUN)
    tracker.log({"epoch": 1})
    tracker.finish(SUMMARY)


def test_title() -> None:
    assert RUN.title == "arm/seed3"


def test_null_tracker_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = NullTracker()
    tell_a_trial(tracker)
    assert vars(tracker) == {}
    assert capsys.readouterr() == ("", "")


def test_composite_tells_each_in_order() -> None:
    lines: list[Any] = []
    tell_a_trial(CompositeTracker([Diary("a", lines), NullTracker(), Diary("b", lines)]))
    told: list[tuple[str, Any]] = [("start", RUN), ("log", {"epoch": 1}), ("finish", SUMMARY)]
    assert lines == [(name, verb, what) for verb, what in told for name in "ab"]
