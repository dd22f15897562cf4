"""The sign-flip test: published examples, exact enumeration, SciPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from harness.statistics import sign_flip_test
from harness.statistics.permutation import MAX_EXACT

# heights of crossed minus self-fertilised maize in eighths of an inch: Darwin's, in Fisher (1935), section 17
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def test_fishers_own_permutation_test() -> None:
    # "in 863 out of 32,768 cases" a total of 314 or more in that direction (Fisher 1935, section 21): 5.267 % both ways
    found = sign_flip_test(DARWIN, np.random.default_rng(0))
    assert found.exact and found.num_units == 15
    assert found.p_value == 2 * 863 / 32_768
    assert found.mean_difference == pytest.approx(314 / 15)


def test_exact_sign_flips_by_brute_force() -> None:
    rng = np.random.default_rng(7)
    for count in (1, 3, 6):
        values = rng.normal(0.5, 1.0, count)
        totals = [
            abs(sum(s * v for s, v in zip(signs, values, strict=True)))
            for signs in itertools.product((-1, 1), repeat=count)
        ]
        expected = np.mean([total >= abs(values.sum()) - 1e-12 for total in totals])
        assert sign_flip_test(values, rng).p_value == expected


def test_smallest_p_values() -> None:
    rng = np.random.default_rng(0)
    assert sign_flip_test([1.0, 2.0, 3.0], rng).p_value == 0.25
    assert sign_flip_test([1.0, 2.0, 3.0, 4.0, 5.0], rng).p_value == 0.0625


def test_random_flips_agree_with_all_of_them() -> None:
    values = np.random.default_rng(8).normal(0.4, 1.0, MAX_EXACT + 2)
    signs = 1 - 2 * ((np.arange(2 ** len(values))[:, None] >> np.arange(len(values))) & 1)
    exact = float((np.abs(signs @ values) >= abs(values.sum()) - 1e-9).mean())
    found = sign_flip_test(values, np.random.default_rng(0), num_flips=40_000)
    assert not found.exact
    assert found.p_value == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 40_000))


def test_a_p_value_of_random_flips_is_never_zero() -> None:
    found = sign_flip_test(np.ones(40), np.random.default_rng(0), num_flips=99)
    assert found.p_value == 0.01


def test_clusters_are_flipped_together() -> None:
    values = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    rng = np.random.default_rng(0)
    assert sign_flip_test(values, rng).p_value == 2 / 64
    found = sign_flip_test(values, rng, clusters=["a", "a", "b", "b", "c", "c"])
    assert (found.p_value, found.num_units) == (0.25, 3)
    assert found.p_value == sign_flip_test([2.0, 2.0, 2.0], rng).p_value


def test_no_difference_at_all() -> None:
    assert sign_flip_test([0.0, 0.0], np.random.default_rng(0)).p_value == 1.0


def test_the_same_generator_gives_the_same_value() -> None:
    values = np.random.default_rng(1).normal(0.3, 1.0, 60)
    found = [sign_flip_test(values, np.random.default_rng(5), num_flips=500).p_value for _ in range(2)]
    assert found[0] == found[1]


def test_wrong_input_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="clusters: 1 labels for 2 items"):
        sign_flip_test([1.0, 2.0], rng, clusters=["a"])
    with pytest.raises(ValueError, match="num_flips"):
        sign_flip_test([1.0, 2.0], rng, num_flips=0)
    with pytest.raises(ValueError, match="not a finite number"):
        sign_flip_test([1.0, np.nan], rng)
