"""Power, detectable difference and seeds needed: against printed sample sizes, each other, and a simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.statistics import detectable_difference, detectable_effect, paired_test_power, seeds_needed
from harness.statistics.power import MAX_SEEDS


def test_printed_sample_sizes() -> None:
    # paired t-test, two-sided 5 %, power 80 %, as G*Power 3.1 gives them for Cohen's small, medium and large effects
    assert [seeds_needed(effect, 1.0) for effect in (0.2, 0.5, 0.8)] == [199, 34, 15]


def test_seeds_needed_is_the_smallest_number_that_suffices() -> None:
    for effect in (0.15, 0.4, 1.0, 1.7, 3.0, 9.0, 40.0):
        count = seeds_needed(effect, 1.0)
        assert count is not None
        assert paired_test_power(effect, 1.0, count) >= 0.8
        assert count == 2 or paired_test_power(effect, 1.0, count - 1) < 0.8


def test_detectable_difference_has_just_that_power() -> None:
    for count in (2, 3, 5, 10, 40):
        found = detectable_difference(0.7, count)
        assert paired_test_power(found, 0.7, count) == pytest.approx(0.8, abs=1e-8)
        assert found == pytest.approx(0.7 * detectable_effect(count))


def test_more_seeds_see_smaller_differences() -> None:
    effects = [detectable_effect(count) for count in (2, 3, 5, 10, 30, 100)]
    assert effects == sorted(effects, reverse=True)
    assert effects[1] == pytest.approx(3.26, abs=0.01)  # three seeds: over three standard deviations
    assert effects[2] == pytest.approx(1.68, abs=0.01)


def test_power_agrees_with_a_simulation() -> None:
    differences = np.random.default_rng(3).normal(1.2, 1.0, size=(20_000, 5))
    share = float((stats.ttest_1samp(differences, 0.0, axis=1).pvalue <= 0.05).mean())
    assert paired_test_power(1.2, 1.0, 5) == pytest.approx(share, abs=0.012)


def test_the_sign_of_a_difference_does_not_matter_and_its_unit_cancels() -> None:
    assert paired_test_power(-1.0, 2.0, 6) == paired_test_power(1.0, 2.0, 6)
    assert paired_test_power(100.0, 200.0, 6) == pytest.approx(paired_test_power(1.0, 2.0, 6))


def test_no_difference_and_tiny_ones_cannot_be_found() -> None:
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(1e-5, 1.0) is None
    assert seeds_needed(1e-250, 1.0) is None
    at_the_edge = seeds_needed(0.009, 1.0)
    assert at_the_edge is not None and at_the_edge <= MAX_SEEDS


@pytest.mark.parametrize("sd", [0.0, -1.0, float("nan"), float("inf")])
def test_a_spread_that_is_none_is_refused(sd: float) -> None:
    with pytest.raises(ValueError, match="sd"):
        seeds_needed(1.0, sd)
    with pytest.raises(ValueError, match="sd"):
        detectable_difference(sd, 5)


def test_one_seed_has_no_power() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        paired_test_power(1.0, 1.0, 1)
    with pytest.raises(ValueError, match="at least 2"):
        detectable_difference(1.0, 1)
