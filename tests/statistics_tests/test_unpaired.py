"""Relative change with Fieller's interval, and Welch's test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.statistics import compare_unpaired


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
