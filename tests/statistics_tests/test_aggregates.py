"""Several targets: IQM and improvement against SciPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.statistics import (
    aggregate_targets,
    compare_aggregates,
    interquartile_mean,
    probability_of_improvement,
)
from harness.statistics.samples import Floats

RNG = np.random.default_rng(51)
SCORES = RNG.normal(size=(5, 6)) + np.arange(6)


def mean_over_targets(scores: Floats) -> Floats:
    return scores.mean(axis=(-2, -1))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_iqm_is_scipys_trimmed_mean() -> None:
    for shape in ((1, 1), (1, 3), (2, 2), (3, 3), (5, 6), (10, 7)):
        scores = RNG.normal(size=shape)
        assert float(interquartile_mean(scores)) == pytest.approx(stats.trim_mean(scores, 0.25, axis=None))
    many = RNG.normal(size=(4, 3, 5))
    assert interquartile_mean(many) == pytest.approx([stats.trim_mean(m, 0.25, axis=None) for m in many])


def test_iqm_by_hand_ignores_the_outlier() -> None:
    assert float(interquartile_mean(np.array([[1.0, 2.0], [3.0, 1000.0]]))) == 2.5


def test_aggregates_hold_their_value() -> None:
    for aggregate in (mean_over_targets, interquartile_mean):
        found = aggregate_targets(SCORES, rng(), aggregate)
        assert found.value == pytest.approx(float(aggregate(SCORES)))
        assert found.interval is not None and found.interval.contains(found.value)
        assert (found.num_seeds, found.num_targets) == (5, 6)
        assert found == aggregate_targets(SCORES, rng(), aggregate)


def test_the_mean_of_one_target_is_as_long_as_t_makes_it() -> None:
    sample = RNG.normal(size=(20, 1))
    found = aggregate_targets(sample, rng(), mean_over_targets, num_resamples=20_000).interval
    expected = stats.ttest_1samp(sample[:, 0], 0.0).confidence_interval()
    assert found is not None
    assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.08)


def test_targets_are_strata() -> None:
    # seeds agree to the last digit, targets do not: there is nothing to be uncertain of
    found = aggregate_targets(np.tile(np.arange(6.0), (5, 1)), rng())
    assert found.interval is not None and found.interval.half_width == pytest.approx(0.0, abs=1e-12)


def test_seeds_are_resampled_jointly_in_a_difference() -> None:
    shifted = compare_aggregates(SCORES + 0.25, SCORES, rng(), mean_over_targets)
    assert shifted.value == pytest.approx(0.25)
    assert shifted.interval is not None and shifted.interval.half_width == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="same shape"):
        compare_aggregates(SCORES, SCORES[1:], rng())


def test_improvement_is_mann_whitneys() -> None:
    x, y = np.round(RNG.normal(0.5, 1.0, (5, 3)), 1), np.round(RNG.normal(0.0, 1.0, (4, 3)), 1)
    expected = np.mean([stats.mannwhitneyu(x[:, k], y[:, k]).statistic / 20 for k in range(3)])
    found = probability_of_improvement(x, y, rng())
    assert found.value == pytest.approx(expected)
    assert probability_of_improvement(x, y, rng(), "lower").value == pytest.approx(1 - expected)
    assert probability_of_improvement(y, x, rng()).value == pytest.approx(1 - expected)
    assert found.interval is not None and 0.0 <= found.interval.low <= found.value <= found.interval.high <= 1.0


def test_improvement_in_the_limits() -> None:
    assert probability_of_improvement(SCORES + 100, SCORES, rng()).value == 1.0
    assert probability_of_improvement(SCORES, SCORES, rng()).value == 0.5


def test_one_seed_has_no_interval() -> None:
    assert aggregate_targets(SCORES[:1], rng()).interval is None
    assert compare_aggregates(SCORES[:1], SCORES[:1], rng()).interval is None
    assert probability_of_improvement(SCORES[:1], SCORES, rng()).interval is None


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="2 dimension"):
        aggregate_targets([1.0, 2.0], rng())
    with pytest.raises(ValueError, match="targets"):
        probability_of_improvement(SCORES, SCORES[:, 1:], rng())
    with pytest.raises(ValueError, match="not a finite number"):
        aggregate_targets([[np.nan]], rng())
