"""Summarise values over seeds: mean, sample sd, t interval.

What varies is everything that the seed draws (initial weights, data order, dropout, the subset of the training data);
the test set is the same, so its own error is not in these intervals: see `item_error` and `shared_variance`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike

from harness.statistics.distributions import t_quantile
from harness.statistics.samples import LEVEL, Interval, as_vector, check_level, is_constant, mean_and_sd


@dataclass(frozen=True)
class SeedSummary:
    """One cell: mean and sample standard deviation (n - 1) over `count` seeds, and the interval of the mean.

    `sd` and `interval` are None for one seed. With no spread at all the interval has length 0 and its method is
    `constant`: it says that the seed changes nothing, not that the number is exact.
    """

    mean: float
    sd: float | None
    count: int
    interval: Interval | None


def summarise(values: ArrayLike, level: float = LEVEL) -> SeedSummary:
    """Mean, sample sd, and Student's t interval of the mean.

    Args:
        values: one number a seed, shape [n].

    Raises:
        ValueError: empty or not finite.

    Source: Student (1908); interval mean +- t(n - 1) sd / sqrt(n).
    """
    check_level(level)
    sample = as_vector(values, "values")
    count = len(sample)
    if count == 1:
        return SeedSummary(float(sample[0]), None, 1, None)
    if is_constant(sample):
        return SeedSummary(
            float(sample[0]), 0.0, count, Interval(float(sample[0]), float(sample[0]), level, "constant")
        )
    mean, sd = mean_and_sd(sample)
    return SeedSummary(mean, sd, count, t_interval(mean, sd, count, level))


def t_interval(mean: float, sd: float, count: int, level: float = LEVEL) -> Interval:
    """Student's interval of a mean of `count` >= 2 values with sample sd `sd`."""
    half = t_quantile(0.5 + level / 2.0, count - 1) * sd / math.sqrt(count)
    return Interval(mean - half, mean + half, level, "t")
