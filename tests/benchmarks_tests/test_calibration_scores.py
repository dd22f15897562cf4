"""Scores and tests that the calibration alone uses: published examples, SciPy, hand-made test sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from calibration_scores import error_rate, mcnemar, mean_score
from scipy import stats

from harness.statistics import compare_error_rates, sign_flip_test


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def outcomes(only_first: int, only_second: int, both: int, neither: int) -> tuple[list[int], list[int]]:
    first = [1] * (only_first + both) + [0] * (only_second + neither)
    second = [0] * only_first + [1] * (both + only_second) + [0] * neither
    return first, second


def test_the_published_example_of_mcnemar() -> None:
    # airway hyper-responsiveness before and after transplantation: Fagerland et al. (2013), tables 1 and 4
    found = mcnemar(*outcomes(1, 7, 1, 12))
    assert (found.only_first, found.only_second) == (1, 7)
    assert (round(found.exact, 3), round(found.mid_p, 3)) == (0.070, 0.039)


def test_exact_mcnemar_is_the_binomial_test() -> None:
    for only_first, only_second in ((0, 1), (3, 3), (4, 15), (120, 90), (1_500, 1_400)):
        found = mcnemar(*outcomes(only_first, only_second, 5, 5))
        expected = stats.binomtest(only_first, only_first + only_second).pvalue
        assert found.exact == pytest.approx(expected, rel=1e-9)
        half = stats.binom.pmf(min(only_first, only_second), only_first + only_second, 0.5)
        mid = 1 - 0.5 * half if only_first == only_second else expected - half
        assert found.mid_p == pytest.approx(mid, rel=1e-9)
        assert found.mid_p <= found.exact


def test_mcnemar_without_discordant_items() -> None:
    found = mcnemar([1, 0, 1], [1, 0, 1])
    assert (found.exact, found.mid_p) == (1.0, 1.0)


def test_mcnemar_takes_right_and_wrong_alone() -> None:
    assert mcnemar([True, False], [False, False]).only_first == 1
    with pytest.raises(ValueError, match="right"):
        mcnemar([0.5, 1.0], [1.0, 1.0])


def test_sign_flips_of_binary_items_are_mcnemars() -> None:
    first, second = outcomes(12, 3, 100, 60)
    found = sign_flip_test(np.subtract(first, second), np.random.default_rng(0))
    assert found.exact  # items on which the systems agree do not count
    assert found.p_value == pytest.approx(mcnemar(first, second).exact, rel=1e-9)


def test_a_rate_is_the_difference_from_a_system_without_errors() -> None:
    lengths = rng().integers(1, 12, 80).astype(float)
    errors = rng(1).binomial(lengths.astype(int), 0.3).astype(float)
    found = error_rate(errors, lengths, rng())
    against_none = compare_error_rates(errors, np.zeros(80), lengths, rng())
    assert (found.value, found.num_items) == (against_none.difference, 80)
    assert found.interval is not None and found.interval.contains(found.value)


def test_accuracy_is_a_rate_of_length_one() -> None:
    right = rng().integers(0, 2, 60).astype(float)
    assert mean_score(right, rng()).interval == error_rate(right, np.ones(60), rng()).interval


def test_what_cannot_be_is_cut_off() -> None:
    # one utterance of forty is wrong: a third of the resamples holds no error, so the bootstrap-t sets no upper end
    errors, lengths = np.r_[np.zeros(39), 1.0], np.full(40, 5.0)
    found = error_rate(errors, lengths, rng()).interval
    assert found is not None and (found.low, found.high) == (0.0, math.inf)
    share = mean_score(1.0 - errors, rng()).interval
    assert share is not None and share.high == 1.0 and share.low == 0.0


def test_error_rates_of_small_test_sets_hold() -> None:
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(400):
        lengths = rng.integers(2, 15, 60)
        errors = rng.binomial(lengths, rng.beta(2.0, 4.0, 60))  # a third wrong, utterances of unequal difficulty
        found = error_rate(errors, lengths, rng, num_resamples=499).interval
        hits.append(found is not None and found.contains(1 / 3))
    assert np.mean(hits) > 0.915
