"""Which cells get a prior from their table, which are left to themselves, and that none of them loses its posterior."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from harness.statistics import PairedSample, SharedComparison, compare_all, holm
from harness.statistics.variance_posterior import LOG_VARIANCE, _exceeding, digamma_of_half, trigamma_of_half

Table = dict[tuple[int, int], PairedSample]


def one_column(sds: list[float], n: int, seed: int, item_variance: float = 0.0) -> Table:
    """Arms with these sds over n seeds, and no true difference."""
    rng = np.random.default_rng(seed)
    return {(a, 0): PairedSample(sd * rng.standard_normal(n), item_variance, 200) for a, sd in enumerate(sds)}


def half_width(found: SharedComparison) -> float:
    interval = found.interval()
    assert interval is not None
    return interval.half_width


def of_t(sample: PairedSample) -> float:
    """Half of the paired t interval."""
    n = len(sample.differences)
    return float(stats.t.ppf(0.975, n - 1)) * sample.differences.std(ddof=1) / math.sqrt(n)


@pytest.mark.parametrize("ratio", [100.0, 1e3, 1e6, 1e30])
@pytest.mark.parametrize("n", [3, 5, 10, 40])
def test_an_arm_that_diverges_has_its_own_t_interval(ratio: float, n: int) -> None:
    samples = one_column([1.0] * 6 + [ratio], n, seed=1)
    found = compare_all(samples)
    assert half_width(found[6, 0]) == pytest.approx(of_t(samples[6, 0]), rel=1e-6)
    assert found[6, 0].p_value == pytest.approx(stats.ttest_1samp(samples[6, 0].differences, 0.0).pvalue, rel=1e-6)
    others = compare_all(one_column([1.0] * 7, n, seed=1))  # who keep what they lend one another
    assert half_width(found[2, 0]) == pytest.approx(half_width(others[2, 0]), rel=0.25)


@pytest.mark.parametrize("ratio", [1e3, 1e6])
def test_an_arm_that_diverges_beside_known_items(ratio: float) -> None:
    samples = one_column([0.3] * 6 + [0.3 * ratio], 5, seed=1, item_variance=0.01)
    assert half_width(compare_all(samples)[6, 0]) == pytest.approx(of_t(samples[6, 0]), rel=1e-3)


@pytest.mark.parametrize("ratio", [1e-2, 1e-4, 1e-30])
@pytest.mark.parametrize("n", [3, 10, 400])
def test_an_arm_that_hardly_moves_has_an_interval_that_is_rather_too_wide(ratio: float, n: int) -> None:
    samples = one_column([1.0] * 6 + [ratio], n, seed=2)
    found = compare_all(samples)
    assert of_t(samples[6, 0]) < half_width(found[6, 0]) < 0.5 * half_width(found[2, 0])


@pytest.mark.parametrize(("n", "most"), [(3, 0.13), (5, 0.1), (10, 0.08)])
def test_an_arm_ten_times_as_loud_is_not_marked_too_often(n: int, most: float) -> None:
    samples = [one_column([1.0] * 6 + [10.0], n, seed) for seed in range(300)]
    assert np.mean([compare_all(each)[6, 0].p_value <= 0.05 for each in samples]) < most  # type: ignore[operator]


@pytest.mark.parametrize(("quiet", "others"), [(4, 2), (3, 3)])
def test_beside_quiet_arms_the_others_keep_their_level(quiet: int, others: int) -> None:
    tables, marked, held = 150, 0, 0
    for seed in range(tables):
        found = compare_all(one_column([0.02] * quiet + [1.5] * others, 3, seed))
        adjusted = holm([each.p_value for each in found.values()])
        marked += any(p is not None and p <= 0.05 for p in adjusted)
        intervals = [found[arm, 0].interval() for arm in range(quiet, quiet + others)]
        held += sum(interval is not None and interval.contains(0.0) for interval in intervals)
    assert marked / tables < 0.12
    assert held / (others * tables) > 0.88


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize(("arms", "columns"), [(1, 7), (2, 3), (5, 2)])
def test_columns_of_few_arms_share_nothing_however_many_there_are(arms: int, columns: int, n: int) -> None:
    rng = np.random.default_rng(n)
    samples = {(f"{c} {a}", c): PairedSample(rng.standard_normal(n)) for c in range(columns) for a in range(arms)}
    for key, found in compare_all(samples).items():
        assert half_width(found) == pytest.approx(of_t(samples[key]), rel=1e-6)


def test_columns_of_few_arms_say_nothing_to_the_others() -> None:
    many = one_column([1.0] * 7, 3, seed=4)
    few: Table = {(arm, 1): PairedSample(1e3 * each.differences[::-1]) for (arm, _), each in many.items() if arm < 5}
    alone, beside = compare_all(many), compare_all(few | many)
    assert {key: beside[key].p_value for key in many} == {key: found.p_value for key, found in alone.items()}


def test_a_larger_sample_variance_is_as_likely_as_chi_squared_says() -> None:
    df = np.array([1, 2, 3, 4, 9, 30, 99])
    for relative in (-8.0, -1.0, 0.0, 2.5, 60.0):
        found = _exceeding(np.full(len(df), relative), df, LOG_VARIANCE)
        with np.errstate(under="ignore"):
            expected = stats.chi2.sf(df[:, None] * np.exp(relative - LOG_VARIANCE), df[:, None])
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-250)


def test_the_bias_of_a_log_variance_is_exact() -> None:
    for d in range(1, 80):
        assert digamma_of_half(d) == pytest.approx(special.digamma(d / 2), rel=1e-13, abs=1e-14)
        assert trigamma_of_half(d) == pytest.approx(special.polygamma(1, d / 2), rel=1e-12)
