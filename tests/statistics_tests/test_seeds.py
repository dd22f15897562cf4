"""Cells over seeds, and samples that share no seed, by hand and by SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.statistics import compare_unpaired, summarise


def test_a_cell_by_hand() -> None:
    found = summarise([70.0, 74.0, 81.0])
    # mean 75; deviations -5, -1, 6: squares 62 over 2; t(2) = 4.3027
    assert found.mean == 75.0
    assert found.sd == pytest.approx(math.sqrt(31.0))
    assert found.interval is not None and found.interval.method == "t"
    assert found.interval.half_width == pytest.approx(4.302653 * math.sqrt(31.0 / 3.0), rel=1e-6)


def test_a_cell_is_scipys() -> None:
    values = np.random.default_rng(2).normal(size=7)
    for level in (0.8, 0.95, 0.99):
        found = summarise(values, level).interval
        expected = stats.ttest_1samp(values, 0.0).confidence_interval(level)
        assert found is not None
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_one_seed_has_no_interval() -> None:
    assert (summarise([5.0]).sd, summarise([5.0]).interval) == (None, None)


def test_a_number_that_no_seed_moves() -> None:
    found = summarise([0.1, 0.1, 0.1])  # NumPy's sd of these is 1.4e-17, not 0
    assert found.mean == 0.1 and found.sd == 0.0
    assert found.interval is not None
    assert (found.interval.low, found.interval.high, found.interval.method) == (0.1, 0.1, "constant")


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf, 1.0], [[1.0, 2.0]]])
def test_what_is_no_sample_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="values: "):
        summarise(bad)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_is_a_probability(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        summarise([1.0, 2.0], level)


@pytest.mark.parametrize("value", [1e300, -1e300, 1e-300, 5e-324])
def test_numbers_that_cannot_be_squared_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="is too large or too small a number to compute with"):
        summarise([1.0, value])


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
