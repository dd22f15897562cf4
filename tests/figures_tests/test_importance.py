"""Importances on scores whose cause is known."""

from __future__ import annotations

import math
import random

import optuna
import pytest

from figures_tests.synthetic import (
    CER,
    DEPTH,
    DEPTH_AXIS,
    F1,
    LAMBDA,
    LAMBDA_AXIS,
    LR_AXIS,
    NORM_AXIS,
    draw_value,
    make_point,
    make_result,
)
from harness.errors import UserError
from harness.figures.importance import drawn_value, measure
from harness.records.search import Objective, SearchResult


def only_lambda_matters(num: int = 40, objective: Objective = CER) -> SearchResult:
    """The error falls towards lambda 1e-3, and nothing else matters."""
    stream, axes = random.Random(0), (DEPTH_AXIS, NORM_AXIS, LAMBDA_AXIS)
    points = []
    for number in range(num):
        params = {axis.key: draw_value(axis, stream) for axis in axes}
        drawn = params[LAMBDA]
        assert isinstance(drawn, float)
        error = 0.3 + 0.02 * abs(math.log10(drawn or 1e-6) + 3)
        points.append(make_point("a", number, params, error if objective.direction == "minimize" else 1 - error))
    return make_result({"a": axes}, points, objective)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [CER, F1])
def test_the_setting_that_matters_comes_first(objective: Objective) -> None:
    shares = measure(only_lambda_matters(objective=objective), "a").shares
    assert shares is not None
    assert next(iter(shares)) == LAMBDA and shares[LAMBDA] > 0.7
    assert sum(shares.values()) == pytest.approx(1)


def test_the_same_points_give_the_same_numbers() -> None:
    assert measure(only_lambda_matters(), "a").shares == measure(only_lambda_matters(), "a").shares


def test_a_zero_sits_one_decade_under_low() -> None:
    assert drawn_value(LAMBDA_AXIS, 0.0) == pytest.approx(-6)
    assert drawn_value(LAMBDA_AXIS, 1e-5) == pytest.approx(-5)
    assert drawn_value(LR_AXIS, 1e-3) == 1e-3


def test_no_importances_have_a_reason() -> None:
    few = measure(only_lambda_matters(5), "a")
    assert few.shares is None and few.reason == "5 complete trials, at least 6 needed"
    lone = make_result({"a": (DEPTH_AXIS,)}, [make_point("a", n, {DEPTH: n / 10}, n / 10) for n in range(8)])
    assert measure(lone, "a").shares is None and "a single setting" in measure(lone, "a").reason
    flat = [point.model_copy(update={"values": (0.5,)}) for point in only_lambda_matters().points]
    assert measure(make_result({"a": (DEPTH_AXIS, LAMBDA_AXIS)}, flat), "a").reason == "all 40 scores are the same"


def test_scores_that_nearly_all_tie_leak_no_warning() -> None:
    points = [p.model_copy(update={"values": (0.1 if p.number == 0 else 0.5,)}) for p in only_lambda_matters(7).points]
    found = measure(make_result({"a": (DEPTH_AXIS, NORM_AXIS, LAMBDA_AXIS)}, points), "a")
    assert found.num_points == len(points)


def test_a_start_outside_the_range_is_kept() -> None:
    result = only_lambda_matters()
    params = dict(result.points[0].params) | {LAMBDA: 1.0, DEPTH: 0.95}
    outside = make_result(result.axes, [*result.points, make_point("a", 40, params, 0.36)])
    assert measure(outside, "a").num_points == 41


def test_optunas_verbosity_is_left_alone(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    measure(only_lambda_matters(), "a")
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("arm", "objective", "match"), [("b", 0, "no arm 'b'; arms: a"), ("a", 1, "1 objectives")])
def test_what_is_not_there_is_named(arm: str, objective: int, match: str) -> None:
    with pytest.raises(UserError, match=match):
        measure(only_lambda_matters(), arm, objective=objective)
