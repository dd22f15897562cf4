"""The race to a target: when it counts as reached, medians with searches that never reach it, the breakdown."""

from __future__ import annotations

from typing import Any

import pytest
from time_to_target import (
    AUTO,
    AUTO_PRUNED,
    METRIC,
    PEER,
    PEER_PRUNED,
    PLAIN,
    PLAIN_PRUNED,
    best_scores,
    break_down,
    median_or_never,
    percentile,
    ratio,
    summarise,
    summarise_times,
)


def run_of(reached_s: list[float | None], num_epochs: int = 40) -> dict[str, Any]:
    return {
        "reached_s": reached_s, "best": 0.5, "num_epochs": num_epochs, "wall_s": 12.0, "opening_s": 2.0, "cpu_s": 20.0,
        "peak_mb": 100.0, "num_complete": 3, "num_pruned": 1,
    }  # fmt: skip


def test_a_trials_best_score_is_that_of_its_best_epoch() -> None:
    trials = [{"number": 0, "epochs": [{METRIC: 0.2}, {METRIC: 0.4}, {METRIC: 0.3}]}]
    assert best_scores({"trials": trials}) == [-0.2]


def test_percentile_lies_between_scores() -> None:
    assert percentile([float(n) for n in range(11)], 90) == pytest.approx(9.0)
    assert percentile([0.0, 1.0], 90) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([3.0, 1.0, 2.0], 2.0),
        ([None, 1.0, 2.0], 2.0),
        ([None, None, 2.0], None),
        ([None, 1.0, 2.0, 4.0], 3.0),
        ([None, None, 2.0, 4.0], None),
    ],
)
def test_never_is_later_than_any_time(times: list[float | None], expected: float | None) -> None:
    assert median_or_never(times) == expected


def test_a_summary_tells_of_searches_that_never_reached_the_target() -> None:
    summary = summarise(PLAIN, [run_of([4.0, None]), run_of([None, None]), run_of([6.0, 9.0])])
    lower, higher = summary["targets"]
    assert lower["reached_s"] == [4.0, None, 6.0] and lower["num_reached"] == 2
    assert lower["median_s"] == 6.0 and lower["least_s"] == 4.0 and lower["most_s"] is None
    assert higher["num_reached"] == 1 and higher["median_s"] is None
    assert summarise_times([2.0, 1.0])["most_s"] == 2.0
    assert summary["epochs_per_s"] == pytest.approx(4.0)  # the opening trains nothing


def test_factors_multiply_to_the_total() -> None:
    speeds = {PLAIN: 4.0, PLAIN_PRUNED: 4.0, AUTO: 8.0, AUTO_PRUNED: 8.0, PEER: 2.0, PEER_PRUNED: 2.0}
    times = {PLAIN: 12.0, PLAIN_PRUNED: 8.0, AUTO: 7.0, AUTO_PRUNED: 5.0, PEER: 30.0, PEER_PRUNED: 24.0}
    summaries: dict[str, dict[str, Any]] = {
        one.name: {"epochs_per_s": speeds[one], "targets": [{"median_s": None}, {"median_s": times[one]}]}
        for one in speeds
    }
    engines = {"seconds": {"plain": 3.0, "cut": 2.0, "packed": 1.0}, "limit": 1.8}
    parts = break_down(summaries, engines, epochs=8, target=1)
    factors = [part["factor"] for part in parts]
    assert factors == pytest.approx([2.0, 1.5, 2.0, 2.0, 1.5, 6.0, 1.0, 6.0, 1.25])
    assert parts[1]["limit"] == 1.8 and parts[4]["limit"] == pytest.approx(8 / 3)


def test_a_factor_of_a_target_that_was_never_reached_is_missing() -> None:
    assert ratio(None, 2.0) is None and ratio(2.0, None) is None and ratio(3.0, 2.0) == 1.5
    speed = dict.fromkeys((PLAIN, PLAIN_PRUNED, AUTO, AUTO_PRUNED, PEER, PEER_PRUNED), 1.0)
    summaries: dict[str, dict[str, Any]] = {
        one.name: {"epochs_per_s": speed[one], "targets": [{"median_s": None}]} for one in speed
    }
    engines = {"seconds": {"plain": 3.0, "cut": 2.0, "packed": 1.0}, "limit": None}
    parts = break_down(summaries, engines, epochs=8, target=0)
    assert [part["factor"] for part in parts] == [1.0, 1.5, 2.0, 1.0, None, None, None, None, None]
