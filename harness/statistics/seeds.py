"""Summarise values over seeds (mean, sample sd, t interval), and compare an arm with the baseline, paired by seed.

Seeds are the unit of replication. What varies is everything that the seed draws (initial weights, data order, dropout,
the subset of the training data); the test set is the same, so its own error is not in these intervals: see `items`
and `two_level`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from harness.statistics.distributions import hedges_correction, t_quantile, t_two_sided_p
from harness.statistics.power import ALPHA, POWER, detectable_difference, seeds_needed
from harness.statistics.samples import (
    LEVEL,
    ROUNDING,
    Interval,
    as_vector,
    check_level,
    is_constant,
    mean_and_sd,
    same_shape,
)

Status = Literal["tested", "no_pair", "one_pair", "identical", "constant"]


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


@dataclass(frozen=True)
class PairedComparison:
    """An arm against the baseline over the seeds that both have; differences are arm minus baseline.

    Attributes:
        status: `tested`; or why there is no test: `no_pair`, `one_pair`, `identical` (equal on every seed),
            `constant` (the same non-zero difference on every seed, so the seeds say nothing of its error).
        count: number of pairs.
        mean_difference: None without a pair.
        sd_difference: sample sd of the differences; None with fewer than 2 pairs.
        interval: of the mean difference; None with fewer than 2 pairs; length 0 and method `constant` if no variation.
        t, p_value: of the paired t-test, two-sided, uncorrected; None unless `tested`.
        effect_size: Hedges' g_z, the mean difference over the sd of the differences, unbiased; None with < 3 pairs.
        seeds: the seeds that were paired.
    """

    status: Status
    count: int
    mean_difference: float | None = None
    sd_difference: float | None = None
    interval: Interval | None = None
    t: float | None = None
    p_value: float | None = None
    effect_size: float | None = None
    seeds: tuple[int, ...] = ()

    def detectable_difference(self, alpha: float = ALPHA, power: float = POWER) -> float | None:
        """The smallest true difference that these seeds find with chance `power`; None unless `tested`."""
        if self.status != "tested" or self.sd_difference is None:
            return None
        return detectable_difference(self.sd_difference, self.count, alpha, power)

    def seeds_needed(self, difference: float | None = None, alpha: float = ALPHA, power: float = POWER) -> int | None:
        """Seeds at which `difference` (default: the observed one) would be found with chance `power`.

        None unless `tested`, or where more than `power.MAX_SEEDS` would be needed.
        """
        wanted = self.mean_difference if difference is None else difference
        if self.status != "tested" or self.sd_difference is None or wanted is None:
            return None
        return seeds_needed(wanted, self.sd_difference, alpha, power)


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


def compare_paired(arm: ArrayLike, baseline: ArrayLike, level: float = LEVEL) -> PairedComparison:
    """An arm against the baseline, value i of both with the same seed (see `PairedComparison`).

    Args:
        arm, baseline: shape [n], n >= 1, the same n.

    Raises:
        ValueError: empty, not finite, or of different lengths.

    Sources: paired t-test, Student (1908); g_z, Lakens (2013), Frontiers in Psychology 4:863, with the exact
    correction of Hedges (1981).
    """
    check_level(level)
    x, y = as_vector(arm, "arm"), as_vector(baseline, "baseline")
    same_shape(arm=x, baseline=y)
    differences, count = x - y, len(x)
    if count == 1:
        return PairedComparison("one_pair", 1, float(differences[0]))
    if is_constant(differences, scale=float(np.maximum.reduce(np.abs([x, y]), axis=None))):
        same = bool(np.allclose(x, y, rtol=ROUNDING, atol=0.0))
        fixed = 0.0 if same else float(np.median(differences))
        degenerate = Interval(fixed, fixed, level, "constant")
        return PairedComparison("identical" if same else "constant", count, fixed, 0.0, degenerate)
    mean, sd = mean_and_sd(differences)
    t = mean / (sd / math.sqrt(count))
    return PairedComparison(
        status="tested",
        count=count,
        mean_difference=mean,
        sd_difference=sd,
        interval=t_interval(mean, sd, count, level),
        t=t,
        p_value=t_two_sided_p(t, count - 1),
        effect_size=mean / sd * hedges_correction(count - 1) if count > 2 else None,
    )


def compare_by_seed(arm: Mapping[int, float], baseline: Mapping[int, float], level: float = LEVEL) -> PairedComparison:
    """`compare_paired` over the seeds that both have (`seeds` in the result); the others are not used.

    Raises:
        ValueError: a paired value is not finite.
    """
    shared = tuple(sorted(arm.keys() & baseline.keys()))
    if not shared:
        return PairedComparison("no_pair", 0)
    found = compare_paired([arm[seed] for seed in shared], [baseline[seed] for seed in shared], level)
    return replace(found, seeds=shared)
