"""The bootstrap's parts: weights, quantile levels against SciPy, and what the three methods owe."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from harness.statistics import Interval, bootstrap_interval, resample_weights
from harness.statistics.bootstrap import METHODS, Method, _bca_levels, _leave_one_out
from harness.statistics.samples import Floats

SAMPLE = np.random.default_rng(12).exponential(size=25)


def mean(weights: Floats) -> Floats:
    return weights @ SAMPLE / weights.sum(axis=1)


def error(weights: Floats) -> Floats:
    centre = mean(weights)
    squares = weights @ SAMPLE**2 - weights.sum(axis=1) * centre**2
    return np.sqrt(np.maximum(squares, 0.0) / (len(SAMPLE) - 1) / len(SAMPLE))


def interval(method: Method, seed: int = 0, resamples: int = 20_000) -> Interval:
    rng = np.random.default_rng(seed)
    return bootstrap_interval(mean, 25, rng, method=method, standard_error=error, num_resamples=resamples)


def test_weights_count_what_is_drawn() -> None:
    weights = resample_weights(7, 4_000, np.random.default_rng(0))
    assert weights.shape == (4_000, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(7), abs=0.06)
    assert weights.var(axis=0) == pytest.approx(np.full(7, 6 / 7), abs=0.08)  # binomial(7, 1/7)


@pytest.mark.parametrize(("method", "name"), [("percentile", "percentile"), ("bca", "BCa")])
def test_intervals_are_scipys_up_to_the_draw(method: Method, name: str) -> None:
    theirs = stats.bootstrap(
        (SAMPLE,), np.mean, n_resamples=20_000, method=name, rng=np.random.default_rng(1)
    ).confidence_interval
    ours = interval(method)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_bca_is_scipys_on_the_same_resamples() -> None:
    drawn = stats.bootstrap((SAMPLE,), np.mean, n_resamples=999, method="BCa", rng=np.random.default_rng(2))
    values = np.asarray(drawn.bootstrap_distribution)
    levels = _bca_levels(float(SAMPLE.mean()), values, _leave_one_out(mean, 25), 0.025)
    assert np.quantile(values, levels) == pytest.approx(
        [drawn.confidence_interval.low, drawn.confidence_interval.high], rel=1e-9
    )


def test_left_out_values() -> None:
    expected = [np.delete(SAMPLE, i).mean() for i in range(25)]
    assert _leave_one_out(mean, 25) == pytest.approx(expected)


def test_bootstrap_t_is_the_textbook_formula() -> None:
    rng = np.random.default_rng(0)
    weights = resample_weights(25, 1_999, rng)
    ratios = np.sort((mean(weights) - SAMPLE.mean()) / error(weights))
    half = SAMPLE.std(ddof=1) / math.sqrt(25)
    found = interval("bootstrap_t", seed=0, resamples=1_999)
    assert found.low == pytest.approx(SAMPLE.mean() - ratios[1_949] * half, rel=1e-9)  # 50th from either end
    assert found.high == pytest.approx(SAMPLE.mean() - ratios[49] * half, rel=1e-9)


def test_bootstrap_t_is_longest_on_the_long_tails_side() -> None:
    found, plain = interval("bootstrap_t"), interval("percentile")
    assert found.high - SAMPLE.mean() > plain.high - SAMPLE.mean() > 0
    assert found.high - SAMPLE.mean() > SAMPLE.mean() - found.low


def test_bootstrap_t_of_three_blocks_bounds_nothing() -> None:
    # 3 of 27 resamples draw one block three times: no spread, an infinite ratio, beyond both 2.5 % tails
    sample = np.array([1.0, 2.0, 4.0])

    def centre(weights: Floats) -> Floats:
        return weights @ sample / 3

    def spread(weights: Floats) -> Floats:
        return np.sqrt(np.maximum(weights @ sample**2 / 3 - centre(weights) ** 2, 0.0) / 2)

    found = bootstrap_interval(centre, 3, np.random.default_rng(0), method="bootstrap_t", standard_error=spread)
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_percentiles_of_three_seeds_are_far_too_short() -> None:
    # all 27 resamples of three values: the interval reaches from nearly the smallest to nearly the largest value,
    # 2.2 sds at most, where t reaches over 8.6 / sqrt(3) = 5.0 sds
    values = np.array([0.0, 1.0, 2.0])
    means = [np.mean(drawn) for drawn in itertools.product(values, repeat=3)]
    exact = np.quantile(means, (0.025, 0.975))
    found = bootstrap_interval(
        lambda weights: weights @ values / 3, 3, np.random.default_rng(0), method="percentile", num_resamples=50_000
    )
    assert (found.low, found.high) == pytest.approx(exact, abs=0.34)  # the next step of the 27
    assert found.high - found.low <= 2.0


@pytest.mark.parametrize("method", METHODS)
def test_repeatable_and_equivariant(method: Method) -> None:
    first, again = interval(method, 3, 500), interval(method, 3, 500)
    assert first == again
    rng = np.random.default_rng(3)
    moved = bootstrap_interval(
        lambda weights: 10.0 - 2.0 * mean(weights),
        25,
        rng,
        method=method,
        standard_error=lambda weights: 2.0 * error(weights),
        num_resamples=500,
    )
    tolerance = 1e-9 if method != "bca" else 0.01  # its two levels are looked up in the mirrored sample
    assert (moved.low, moved.high) == pytest.approx((10 - 2 * first.high, 10 - 2 * first.low), abs=tolerance)


def test_nothing_varies() -> None:
    found = bootstrap_interval(lambda weights: np.full(len(weights), 0.3), 5, np.random.default_rng(0))
    assert (found.low, found.high, found.method) == (0.3, 0.3, "constant")


def test_wrong_input_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="1 block"):
        bootstrap_interval(mean, 1, rng)
    with pytest.raises(ValueError, match="choices: percentile, bca, bootstrap_t"):
        bootstrap_interval(mean, 25, rng, method="basic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="standard_error"):
        bootstrap_interval(mean, 25, rng, method="bootstrap_t")
