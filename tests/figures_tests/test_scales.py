"""Where values land, and what the ticks say."""

from __future__ import annotations

import pytest

from figures_tests.synthetic import DEPTH, DEPTH_AXIS, LAMBDA, LAMBDA_AXIS, LR, LR_AXIS, NORM, NORM_AXIS, make_point
from harness.figures.scales import has_value, make_scale
from harness.records.search import Axis


def test_a_zero_stands_apart_from_the_logarithmic_range() -> None:
    scale = make_scale(LAMBDA_AXIS, [])
    assert scale.zero is not None and scale.broken_at is not None
    assert scale.limits[0] < scale.coordinate(0.0) < scale.broken_at < scale.coordinate(1e-5) == pytest.approx(-5)
    assert scale.ticks()[scale.zero] == "0"
    assert scale.ticks()[-3.0] == "10⁻³"


def test_a_log_axis_has_a_zero_only_when_a_trial_has() -> None:
    assert make_scale(LR_AXIS, []).zero is None
    assert make_scale(LR_AXIS, [make_point("a", 0, {LR: 0.0})]).zero is not None


def test_a_short_log_range_has_ticks_within_the_decade() -> None:
    axis = Axis(key="x", kind="log", low=1.5e-3, high=6e-3)
    assert list(make_scale(axis, []).ticks().values()) == ["0.002", "0.005"]


def test_whole_numbers_have_whole_ticks() -> None:
    axis = Axis(key="dim", kind="linear", low=1, high=4)
    assert list(make_scale(axis, [make_point("a", 0, {"dim": 2})]).ticks().values()) == ["1", "2", "3", "4"]


def test_choices_stand_in_order_and_an_unlisted_one_last() -> None:
    scale = make_scale(NORM_AXIS, [make_point("a", 0, {NORM: "both"})])
    assert [scale.coordinate(choice) for choice in ("pre", "post", "none", "both")] == [0, 1, 2, 3]


def test_a_point_without_the_setting_is_not_on_the_axis() -> None:
    assert has_value(DEPTH_AXIS, make_point("a", 0, {DEPTH: 0.5}))
    assert not has_value(DEPTH_AXIS, make_point("a", 0, {LAMBDA: 0.5}))
    assert not has_value(DEPTH_AXIS, make_point("a", 0, {DEPTH: None}))
