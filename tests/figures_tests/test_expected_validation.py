"""The expected best against enumeration and simulation."""

from __future__ import annotations

import random
from itertools import product
from statistics import fmean

import pytest

from figures_tests.synthetic import CER, LR, LR_AXIS, make_point, make_result
from harness.config.sweep import Goal
from harness.figures.expected_validation import (
    best_quantile,
    draws_of,
    expected_best,
)

VALUES = [(0.3,), (0.2, 0.5), (0.1, 0.1, 0.4), (0.9, 0.2, 0.2, 0.7, -0.3)]
DIRECTIONS: list[Goal] = ["maximize", "minimize"]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("num_draws", [1, 2, 3, 5])
def test_with_replacement_it_is_the_mean_over_all_tuples(
    values: tuple[float, ...], num_draws: int, direction: Goal
) -> None:
    best = max if direction == "maximize" else min
    oracle = fmean(best(drawn) for drawn in product(values, repeat=num_draws))
    assert expected_best(values, num_draws, direction) == pytest.approx(oracle, rel=1e-12)


def test_it_agrees_with_simulation() -> None:
    stream = random.Random(0)
    values = [stream.gauss(0, 1) for _ in range(30)]
    simulated = fmean(max(stream.choices(values, k=7)) for _ in range(40_000))
    assert expected_best(values, 7, "maximize") == pytest.approx(simulated, abs=0.015)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_quantile_is_that_of_all_tuples(direction: Goal) -> None:
    values = (0.9, 0.2, 0.2, 0.7, -0.3)
    best = max if direction == "maximize" else min
    for num_draws, share in product((1, 2, 4), (0.25, 0.5, 0.75)):
        from_worst = sorted((best(t) for t in product(values, repeat=num_draws)), reverse=direction == "minimize")
        oracle = next(v for i, v in enumerate(from_worst, start=1) if i / len(from_worst) >= share)
        assert best_quantile(values, num_draws, share, direction) == oracle


def test_impossible_draws_are_refused() -> None:
    for values, num_draws in (((), 1), ((0.5,), 0), ((0.5,), -1)):
        with pytest.raises(ValueError, match="at least 1"):
            expected_best(values, num_draws, "maximize")


def test_lost_trials_count_as_the_worst_usable_score() -> None:
    points = [
        make_point("a", 0, {LR: 1e-3}, 0.3),
        make_point("a", 1, {LR: 1e-3}, 0.5),
        make_point("a", 2, {LR: 1e-3}),
        make_point("a", 3, {LR: 1e-3}, 0.1, violations=(0.2,)),
        make_point("a", 4, {LR: 1e-3}, state="failed", reason="nan"),
        make_point("a", 5, {LR: 1e-3}, state="failed", reason="killed"),
        make_point("a", 6, {LR: 1e-3}, state="running"),
    ]
    draws = draws_of(make_result({"a": (LR_AXIS,)}, points, CER), "a")
    assert (draws.values, draws.stand_ins) == ((0.3, 0.5, 0.5, 0.5, 0.5), 3)
