"""Cells and paired comparisons: Student's own data, SciPy, and every case in which there is nothing to test."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from harness.statistics import compare_by_seed, compare_paired, relative_change, summarise
from harness.statistics.samples import is_constant

# hours of sleep gained with two drugs by ten patients (Student 1908, table on page 20)
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


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


def test_students_sleep() -> None:
    found = compare_paired(SECOND, FIRST)
    assert found.mean_difference == pytest.approx(1.58)
    assert found.sd_difference == pytest.approx(1.23, abs=0.001)
    assert found.t == pytest.approx(4.0621, abs=1e-4)
    assert found.p_value == pytest.approx(0.00283, abs=1e-5)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((0.7001, 2.4599), abs=1e-4)


def test_a_comparison_is_scipys() -> None:
    rng = np.random.default_rng(4)
    for count in (2, 3, 5, 12):
        x, y = rng.normal(1.0, 2.0, count), rng.normal(size=count)
        found, expected = compare_paired(x, y), stats.ttest_rel(x, y)
        bounds = expected.confidence_interval(0.95)
        assert found.status == "tested" and found.count == count
        assert (found.t, found.p_value) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)
        assert found.interval is not None
        assert (found.interval.low, found.interval.high) == pytest.approx((bounds.low, bounds.high), rel=1e-9)


def test_interval_and_test_agree() -> None:
    rng = np.random.default_rng(6)
    for _ in range(300):
        found = compare_paired(rng.normal(1.0, 1.0, 5), rng.normal(size=5))
        assert found.interval is not None and found.p_value is not None
        assert (found.p_value <= 0.05) == (not found.interval.contains(0.0))


def test_effect_size_by_hand() -> None:
    # differences 1, 2, 3: mean 2, sd 1; J(2) = 1 / Gamma(1/2) = 0.5642
    found = compare_paired([1.0, 3.0, 5.0], [0.0, 1.0, 2.0])
    assert found.effect_size == pytest.approx(2.0 / math.sqrt(math.pi))


def test_two_seeds_have_a_test_but_no_unbiased_effect_size() -> None:
    found = compare_paired([1.0, 3.0], [0.0, 1.0])
    assert found.status == "tested" and found.effect_size is None
    assert found.p_value == pytest.approx(float(stats.ttest_rel([1.0, 3.0], [0.0, 1.0]).pvalue))
    assert found.detectable_difference() is not None


def test_swapping_the_arms_turns_the_signs() -> None:
    there, back = compare_paired(FIRST, SECOND), compare_paired(SECOND, FIRST)
    assert there.mean_difference == pytest.approx(-(back.mean_difference or 0.0))
    assert there.interval is not None and back.interval is not None
    assert (there.interval.low, there.interval.high) == pytest.approx((-back.interval.high, -back.interval.low))
    assert there.p_value == back.p_value


def test_order_shift_and_unit_do_not_matter() -> None:
    x, y = np.array(FIRST), np.array(SECOND)
    order = np.random.default_rng(0).permutation(10)
    plain = compare_paired(x, y)
    for other, scale in (
        (compare_paired(x[order], y[order]), 1.0),
        (compare_paired(x + 50, y + 50), 1.0),
        (compare_paired(100 * x, 100 * y), 100.0),
    ):
        assert other.p_value == pytest.approx(plain.p_value, rel=1e-9)
        assert other.effect_size == pytest.approx(plain.effect_size, rel=1e-9)
        assert other.mean_difference == pytest.approx(scale * (plain.mean_difference or 0.0))


def test_a_luck_that_both_arms_share_cancels() -> None:
    luck = np.array([5.0, -3.0, 8.0, 0.0, 2.0])
    own = np.array([0.1, -0.1, 0.2, 0.0, -0.2])
    found = compare_paired(luck + 1.0 + own, luck)
    assert found.p_value is not None and found.p_value < 0.001
    assert float(stats.ttest_ind(luck + 1.0 + own, luck).pvalue) > 0.5


def test_identical_arms() -> None:
    found = compare_paired([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
    assert (found.status, found.mean_difference, found.p_value) == ("identical", 0.0, None)
    assert found.effect_size is None and found.detectable_difference() is None and found.seeds_needed() is None
    varying = compare_paired([0.5, 0.6, 0.7], [0.5, 0.6, 0.7])
    assert varying.status == "identical"


def test_two_arms_that_no_seed_moves() -> None:
    found = compare_paired([0.5, 0.5, 0.5], [0.3, 0.3, 0.3])
    assert (found.status, found.p_value, found.sd_difference) == ("constant", None, 0.0)
    assert found.mean_difference == pytest.approx(0.2)
    assert found.interval is not None and found.interval.method == "constant"


def test_rounding_is_no_spread() -> None:
    baseline = np.array([0.1, 0.2, 0.3])
    found = compare_paired(baseline + 0.1, baseline)  # the differences differ in their last bits
    assert found.status == "constant"
    assert compare_paired(baseline * (1 + 1e-15), baseline).status == "identical"
    assert not is_constant(np.array([1.0, 1.0 + 1e-9]))


def test_a_frozen_baseline_is_tested_by_the_spread_of_the_arm() -> None:
    found = compare_paired([0.51, 0.55, 0.53], [0.5, 0.5, 0.5])
    assert found.status == "tested"
    assert found.p_value == pytest.approx(float(stats.ttest_1samp([0.51, 0.55, 0.53], 0.5).pvalue))


def test_one_pair() -> None:
    found = compare_paired([0.6], [0.5])
    assert (found.status, found.p_value, found.interval) == ("one_pair", None, None)
    assert found.mean_difference == pytest.approx(0.1)
    assert found.detectable_difference() is None and found.seeds_needed(0.1) is None


def test_seeds_are_paired_by_name() -> None:
    arm, baseline = {0: 1.0, 1: 3.0, 2: 2.0, 7: 100.0}, {2: 1.0, 1: 1.0, 0: 0.5, 9: -100.0}
    found = compare_by_seed(arm, baseline)
    assert found.seeds == (0, 1, 2)
    same = compare_paired([1.0, 3.0, 2.0], [0.5, 1.0, 1.0])
    assert (found.mean_difference, found.p_value, found.interval) == (same.mean_difference, same.p_value, same.interval)


def test_no_shared_seed() -> None:
    found = compare_by_seed({0: 1.0}, {1: 1.0})
    assert (found.status, found.count, found.mean_difference) == ("no_pair", 0, None)


def test_seeds_needed_of_a_named_difference() -> None:
    found = compare_paired(SECOND, FIRST)
    needed = found.seeds_needed(1.0)
    assert needed is not None and needed > (found.seeds_needed() or 0)


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf, 1.0], [[1.0, 2.0]]])
def test_what_is_no_sample_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="values: "):
        summarise(bad)
    with pytest.raises(ValueError, match="arm: "):
        compare_paired(bad, [1.0, 2.0])


def test_pairs_must_match() -> None:
    with pytest.raises(ValueError, match=r"arm \(3,\), baseline \(2,\)"):
        compare_paired([1.0, 2.0, 3.0], [1.0, 2.0])


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_is_a_probability(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        summarise([1.0, 2.0], level)


@pytest.mark.parametrize("value", [1e300, -1e300, 1e-300, 5e-324])
@pytest.mark.parametrize(
    "statistic", [summarise, lambda x: compare_paired(x, [0.0, 0.0]), lambda x: relative_change([1.0, 2.0], x)]
)
def test_numbers_that_cannot_be_squared_are_refused(statistic: Callable[[list[float]], object], value: float) -> None:
    with pytest.raises(ValueError, match="is too large or too small a number to compute with"):
        statistic([1.0, value])


def test_differences_alike_but_for_rounding_are_no_test() -> None:
    """With sd 6e-12, p would be 1e-23; a score moves in steps of one test item."""
    found = compare_paired([1.0, 1.0, 1.0 + 1e-11], [0.0, 0.0, 0.0])
    assert (found.status, found.p_value, found.mean_difference) == ("constant", None, 1.0)
    assert compare_paired([0.5, 0.5 + 1e-11], [0.5, 0.5]).status == "identical"
