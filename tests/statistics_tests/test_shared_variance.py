"""Comparisons over seeds and items: a t-test where nothing is shared, steadier where a table shares its variances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.statistics import shared_variance
from harness.statistics.samples import Interval
from harness.statistics.shared_variance import PairedSample, compare_all, compare_alone


def _table(
    seed: int, arms: int = 8, columns: int = 3, n: int = 3, sds: float = 1.0
) -> dict[tuple[int, int], PairedSample]:
    rng = np.random.default_rng(seed)
    return {(a, c): PairedSample(sds * rng.standard_normal(n)) for a in range(arms) for c in range(columns)}


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("shift", [0.1, 2.0, 20.0])
def test_alone_and_without_items_it_is_the_paired_t_test(n: int, shift: float) -> None:
    x = np.random.default_rng(n).standard_normal(n) + shift
    ours, scipys = compare_alone(PairedSample(x)), stats.ttest_1samp(x, 0.0)
    assert ours.p_value == pytest.approx(scipys.pvalue, rel=1e-6, abs=1e-25)
    for level in (0.8, 0.95, 0.999):
        interval, expected = ours.interval(level), scipys.confidence_interval(level)
        assert interval is not None
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-8)


def test_students_sleep() -> None:
    # hours of sleep gained with two drugs by ten patients (Student 1908, table on page 20)
    first = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    second = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    found = compare_alone(PairedSample(second - first))
    interval = found.interval()
    assert found.mean == pytest.approx(1.58) and found.p_value == pytest.approx(0.00283, abs=1e-5)
    assert interval is not None and (interval.low, interval.high) == pytest.approx((0.7001, 2.4599), abs=1e-4)


@pytest.mark.parametrize("df", [1, 2, 5, 60])
def test_over_items_alone_it_is_a_t_test_with_the_blocks_degrees_of_freedom(df: int) -> None:
    sample = PairedSample(np.array([3.0, 3.0, 3.0]), item_variance=2.0, item_df=df, deterministic=True)
    found = compare_alone(sample)
    assert (found.status, found.count, found.seed_error) == ("deterministic", 1, None)
    assert found.p_value == pytest.approx(2 * stats.t.sf(3.0 / math.sqrt(2.0), df), rel=1e-6)


def test_errors_of_seeds_and_items_add_up() -> None:
    x = np.random.default_rng(0).standard_normal(200) + 0.3  # so many seeds that their variance is known
    found = compare_alone(PairedSample(x, item_variance=0.02))
    error = math.sqrt(x.var(ddof=1) / 200 + 0.02)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(x.mean() / error), rel=0.05)
    assert found.seed_error == pytest.approx(x.std(ddof=1) / math.sqrt(200))
    assert found.item_error == pytest.approx(math.sqrt(0.02))


def test_a_table_lends_its_variances_and_a_loud_arm_keeps_its_own() -> None:
    samples = _table(3)
    rng = np.random.default_rng(9)
    for column in range(3):
        samples[7, column] = PairedSample(8.0 * rng.standard_normal(3))
    shared, alone = compare_all(samples), compare_all(samples, min_arms=99)
    quiet, loud = shared[2, 1].interval(), shared[7, 1].interval()
    own = alone[2, 1].interval()
    assert quiet is not None and loud is not None and own is not None
    # The true standard error is 1 / sqrt(3); the t quantile with two degrees of freedom is 4.3 and the normal's 1.96.
    assert 1.5 < quiet.half_width * math.sqrt(3) < 3.5
    assert loud.half_width > 3.0 * quiet.half_width


def test_units_and_order_do_not_matter() -> None:
    samples = _table(1, n=5)
    found = compare_all(samples)
    turned = compare_all({key: PairedSample(-1e6 * s.differences) for key, s in reversed(samples.items())})
    for key, one in found.items():
        assert turned[key].p_value == pytest.approx(one.p_value, rel=1e-9)
        interval, other = one.interval(), turned[key].interval()
        assert interval is not None and other is not None
        assert (-other.high / 1e6, -other.low / 1e6) == pytest.approx((interval.low, interval.high), rel=1e-7)


def test_the_detectable_difference_is_found_as_often_as_it_says() -> None:
    rng, n, alpha = np.random.default_rng(4), 5, 0.05 / 24
    told, hits = [], 0
    for _ in range(60):
        found = compare_all({(a, c): PairedSample(rng.standard_normal(n)) for a in range(6) for c in range(4)})
        told.append(found[0, 0].detectable(alpha))
    difference = float(np.median([value for value in told if value is not None]))
    for _ in range(200):
        samples = {(a, c): PairedSample(rng.standard_normal(n)) for a in range(6) for c in range(4)}
        samples[0, 0] = PairedSample(rng.standard_normal(n) + difference)
        p_value = compare_all(samples)[0, 0].p_value
        assert p_value is not None
        hits += p_value <= alpha
    assert 0.65 < hits / 200 < 0.92  # 80 % is promised; the difference is a median over tables


@pytest.mark.parametrize("power", [0.5, 0.2])
def test_a_power_of_a_half_or_less_is_refused(power: float) -> None:
    with pytest.raises(ValueError, match=f"power {power} must be above 0.5"):
        compare_alone(PairedSample(np.array([1.0, 2.0, 4.0]))).detectable(0.05, power)


def test_where_no_test_is_possible_none_is_made() -> None:
    one = compare_alone(PairedSample(np.array([2.0]), item_variance=0.1))
    assert (one.status, one.p_value, one.interval(), one.detectable(0.05)) == ("one_pair", None, None, None)
    same = compare_alone(PairedSample(np.zeros(3)))
    assert (same.status, same.p_value, same.mean) == ("identical", None, 0.0)
    assert same.interval() == Interval(0.0, 0.0, 0.95, "constant") and same.detectable(0.05) is None
    alike = compare_alone(PairedSample(np.array([0.1 + 0.2, 0.3, 0.3])))
    assert (alike.status, alike.p_value) == ("constant", None)
    assert alike.interval(0.9) == Interval(alike.mean, alike.mean, 0.9, "constant")


def test_a_p_value_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = np.ones(3), np.full(3, math.nan)
    monkeypatch.setattr(shared_variance, "flat_posterior", lambda *_: broken)
    with pytest.raises(ValueError, match="p-value nan of arm of cer"):
        compare_all({("arm", "cer"): PairedSample(np.array([1.0, 2.0, 4.0]))})


def test_differences_alike_to_less_than_an_item_are_no_proof() -> None:
    x = np.array([1.0, 1.0, 1.0 + 1e-11])  # tested by itself, p would be 4e-23
    found = compare_alone(PairedSample(x, resolution=0.5))
    assert found.status == "tested"
    assert found.p_value == pytest.approx(2 * stats.t.sf(1.0 / math.sqrt(0.25 / 6.0 / 3.0), 2), rel=1e-6)


@pytest.mark.parametrize(
    ("differences", "variance"),
    [
        ([1e300, 2e300], 0.0),
        ([1e-300, 2e-300], 0.0),
        ([math.nan, 1.0], 0.0),
        ([1.0, 2.0], -1.0),
        ([1.0, 2.0], math.inf),
    ],
)
def test_numbers_that_cannot_be_squared_are_refused(differences: list[float], variance: float) -> None:
    with pytest.raises(ValueError, match="arm of cer"):
        compare_all({("arm", "cer"): PairedSample(np.array(differences), variance)})
