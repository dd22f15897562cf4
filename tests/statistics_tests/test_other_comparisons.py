"""Relative change with Fieller's interval, and Welch's test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.statistics import compare_unpaired, relative_change


def test_fiellers_ends_are_where_the_paired_t_test_turns() -> None:
    rng = np.random.default_rng(0)
    for count in (3, 5, 12):
        y = rng.normal(20.0, 1.0, count)
        x = 0.8 * y + rng.normal(0.0, 0.5, count)
        found = relative_change(x, y)
        assert found.change == pytest.approx(x.mean() / y.mean() - 1)
        assert found.interval is not None and found.interval.method == "fieller"
        for end in (found.interval.low, found.interval.high):
            assert float(stats.ttest_rel(x, (1 + end) * y).pvalue) == pytest.approx(0.05, abs=1e-8)
        assert found.interval.contains(found.change)


def test_unit_does_not_matter() -> None:
    x, y = np.array([10.0, 11.0, 12.5]), np.array([14.0, 15.0, 15.5])
    small, large = relative_change(x / 100, y / 100), relative_change(x, y)
    assert small.interval is not None and large.interval is not None
    assert (small.interval.low, small.interval.high) == pytest.approx((large.interval.low, large.interval.high))


def test_a_baseline_that_may_be_zero_bounds_nothing() -> None:
    found = relative_change([1.0, 2.0, 1.5], [0.5, -0.4, 0.3])
    assert found.interval is not None and (found.interval.low, found.interval.high) == (-math.inf, math.inf)


def test_relative_change_of_what_does_not_vary() -> None:
    found = relative_change([8.0, 8.0], [10.0, 10.0])
    assert found.change == pytest.approx(-0.2)
    assert found.interval is not None and found.interval.method == "constant" and found.interval.half_width == 0.0
    assert relative_change([8.0], [10.0]).interval is None
    with pytest.raises(ValueError, match="mean is 0"):
        relative_change([1.0, 2.0], [1.0, -1.0])


def test_welch_is_scipys() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(1.0, 1.0, 4), rng.normal(0.0, 3.0, 9)
    found, expected = compare_unpaired(x, y), stats.ttest_ind(x, y, equal_var=False)
    bounds = expected.confidence_interval()
    assert (found.p_value, found.df) == pytest.approx((expected.pvalue, expected.df), rel=1e-9)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((bounds.low, bounds.high), rel=1e-9)


def test_welch_without_spread_or_seeds() -> None:
    assert compare_unpaired([1.0], [0.0, 2.0]).interval is None
    found = compare_unpaired([1.0, 1.0], [0.5, 0.5, 0.5])
    assert found.p_value is None and found.interval is not None and found.interval.method == "constant"
    frozen = compare_unpaired([0.1, 0.1, 0.1], [0.5, 0.7])  # one side has none: the other's df
    assert frozen.df == pytest.approx(1.0)
