"""Summarise several targets (languages, domains, tasks) in one number: interquartile mean, probability of improvement.

Scores are matrices [seeds, targets]. Written after Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of
the Statistical Precipice" (NeurIPS), whose stratified bootstrap resamples the seeds of each target by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from harness.statistics.distributions import normal_cdf, t_quantile
from harness.statistics.samples import LEVEL, Floats, Interval, as_matrix, check_level

Aggregate = Callable[[Floats], Floats]  # scores [..., seeds, targets] -> [...]
NUM_RESAMPLES = 2_000


@dataclass(frozen=True)
class AggregateScore:
    """An aggregate over seeds and targets, with its interval over seeds (None for one seed)."""

    value: float
    interval: Interval | None
    num_seeds: int
    num_targets: int


def interquartile_mean(scores: Floats) -> Floats:
    """Mean of the middle half of all scores; [..., seeds, targets] -> [...].

    The lowest and the highest floor(n / 4) of the n = seeds * targets scores are left out, as in
    `scipy.stats.trim_mean(scores, 0.25)`.
    """
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return flat[..., cut : flat.shape[-1] - cut].mean(axis=-1)


def aggregate_targets(
    scores: ArrayLike,
    rng: np.random.Generator,
    aggregate: Aggregate = interquartile_mean,
    *,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> AggregateScore:
    """An aggregate of scores [seeds, targets] with an interval from the stratified bootstrap.

    Seeds are resampled within each target; targets are fixed (the interval is about these targets, not about others).
    The interval is the percentile interval at the level that makes it as long as the t interval would be for a mean
    ("expanded percentiles", Hesterberg 2015, The American Statistician 69): plain percentiles are too short.

    Raises:
        ValueError: not finite, or not a matrix.
    """
    check_level(level)
    matrix = as_matrix(scores, "scores")
    value = float(aggregate(matrix))
    num_seeds, num_targets = matrix.shape
    if num_seeds < 2:
        return AggregateScore(value, None, num_seeds, num_targets)
    values = aggregate(_stratified(matrix, num_resamples, rng))
    return AggregateScore(value, _expanded(values, num_seeds, num_targets, level), num_seeds, num_targets)


def compare_aggregates(
    first: ArrayLike,
    second: ArrayLike,
    rng: np.random.Generator,
    aggregate: Aggregate = interquartile_mean,
    *,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> AggregateScore:
    """Aggregate of the first arm minus that of the second; row i of both has the same seed and is resampled jointly.

    Raises:
        ValueError: shapes differ, or not finite.
    """
    check_level(level)
    x, y = as_matrix(first, "first"), as_matrix(second, "second")
    if x.shape != y.shape:
        raise ValueError(f"paired scores must have the same shape, not {x.shape} and {y.shape}")
    value, (num_seeds, num_targets) = float(aggregate(x) - aggregate(y)), x.shape
    if num_seeds < 2:
        return AggregateScore(value, None, num_seeds, num_targets)
    rows = rng.integers(0, num_seeds, size=(num_resamples, num_seeds, num_targets))
    columns = np.arange(num_targets)
    values = aggregate(x[rows, columns]) - aggregate(y[rows, columns])
    return AggregateScore(value, _expanded(values, num_seeds, num_targets, level), num_seeds, num_targets)


def probability_of_improvement(
    first: ArrayLike,
    second: ArrayLike,
    rng: np.random.Generator,
    direction: Literal["higher", "lower"] = "higher",
    *,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> AggregateScore:
    """Chance that the first arm beats the second on a target drawn at random, with independent seeds; ties count half.

    Args:
        first, second: shape [seeds, targets]; the numbers of seeds may differ.

    The mean over targets of the Mann-Whitney statistic; 0.5 is "no better", and it says nothing of how much better.

    Source: Agarwal et al. (2021), section 4.3.
    """
    check_level(level)
    x, y = as_matrix(first, "first"), as_matrix(second, "second")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{x.shape[1]} targets and {y.shape[1]} cannot be compared")
    value = float(_improvement(x, y, direction))
    num_seeds = min(len(x), len(y))
    if num_seeds < 2:
        return AggregateScore(value, None, num_seeds, x.shape[1])
    values = _improvement(_stratified(x, num_resamples, rng), _stratified(y, num_resamples, rng), direction)
    found = _expanded(values, num_seeds, x.shape[1], level)
    clipped = Interval(max(0.0, found.low), min(1.0, found.high), level, found.method)
    return AggregateScore(value, clipped, num_seeds, x.shape[1])


def _stratified(matrix: Floats, num_resamples: int, rng: np.random.Generator) -> Floats:
    """Resamples [resamples, seeds, targets]: seeds with replacement, each target by itself."""
    num_seeds, num_targets = matrix.shape
    rows = rng.integers(0, num_seeds, size=(num_resamples, num_seeds, num_targets))
    return matrix[rows, np.arange(num_targets)]


def _expanded(values: Floats, num_seeds: int, num_targets: int, level: float) -> Interval:
    df = num_targets * (num_seeds - 1)
    z = math.sqrt(num_seeds / (num_seeds - 1)) * t_quantile(0.5 + level / 2.0, df)
    tail = normal_cdf(-z)  # further out than (1 - level) / 2: the quantiles whose distance is that of a t interval
    low, high = np.quantile(values, (tail, 1.0 - tail))
    return Interval(float(low), float(high), level, "expanded_percentile")


def _improvement(x: Floats, y: Floats, direction: Literal["higher", "lower"]) -> Floats:
    pairs = x[..., :, None, :] - y[..., None, :, :]
    wins = (pairs > 0 if direction == "higher" else pairs < 0) + 0.5 * (pairs == 0)
    return wins.mean(axis=(-3, -2, -1))
