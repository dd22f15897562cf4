"""A search against the clock: a target counts when it is met, not later; a late one does not count."""

from __future__ import annotations

import json
import time
from pathlib import Path

from measuring import Meter
from progress import Progress, write_search


def test_the_first_score_that_meets_the_target_stops_the_clock() -> None:
    progress = Progress([0.5], limit_s=1000.0)
    progress.start(spent_s=10.0)
    progress.take(0.4)
    assert progress.reached_s == [None] and not progress.is_over and progress.best == 0.4
    began = time.perf_counter()
    progress.take(0.5, at=began + 2.0)
    progress.take(0.6, at=began + 3.0)
    assert progress.is_over and progress.best == 0.6 and progress.num_epochs == 3
    (reached,) = progress.reached_s
    assert reached is not None and 12.0 <= reached < 13.0


def test_each_target_has_its_time_and_the_last_ends_the_search() -> None:
    progress = Progress([0.5, 0.7], limit_s=1000.0)
    progress.start()
    now = time.perf_counter()
    progress.take(0.6, at=now + 2.0)
    assert progress.reached_s[1] is None and not progress.is_over
    progress.take(0.8, at=now + 3.0)
    assert progress.is_over and [round(at or 0.0) for at in progress.reached_s] == [2, 3]


def test_messages_may_come_in_another_order_than_their_times() -> None:
    progress = Progress([0.5], limit_s=1000.0)
    progress.start()
    now = time.perf_counter()
    progress.take(0.7, at=now + 5.0)
    progress.take(0.6, at=now + 4.0)
    (reached,) = progress.reached_s
    assert reached is not None and 4.0 <= reached < 5.0


def test_a_search_is_over_when_its_time_is_used_up() -> None:
    progress = Progress([0.5], limit_s=5.0)
    progress.start(spent_s=6.0)
    progress.take(0.4)
    assert progress.is_over and progress.reached_s == [None]


def test_a_target_that_is_reached_too_late_is_not_reached(tmp_path: Path) -> None:
    progress = Progress([0.5], limit_s=5.0)
    progress.start(spent_s=6.0)
    progress.take(0.6)
    first, second = Meter(), Meter()
    first.wall_s, second.wall_s, first.peak_mb, second.peak_mb = 2.0, 4.0, 30.0, 20.0
    write_search(str(tmp_path / "outcome.json"), progress, [first, second], num_pruned=3)
    found = json.loads((tmp_path / "outcome.json").read_text())
    assert found["reached_s"] == [None] and found["best"] == 0.6
    assert found["wall_s"] == 6.0 and found["peak_mb"] == 30.0 and found["num_pruned"] == 3
