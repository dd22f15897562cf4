"""Comparisons beside the paired difference: relative change with Fieller's interval, and Welch's unpaired test."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike

from harness.statistics.distributions import t_quantile, t_two_sided_p
from harness.statistics.samples import LEVEL, Interval, as_vector, check_level, is_constant, same_shape


@dataclass(frozen=True)
class RelativeChange:
    """Mean of the arm over mean of the baseline, minus 1; negative is a reduction (WERR is `-change`).

    `interval` is None with fewer than 2 pairs, and unbounded (-inf, inf) where the baseline's mean is not clearly
    different from 0.
    """

    change: float
    count: int
    interval: Interval | None


@dataclass(frozen=True)
class UnpairedComparison:
    """Difference of the means of two independent samples, with Welch's interval and test; None where undefined."""

    mean_difference: float
    counts: tuple[int, int]
    interval: Interval | None
    df: float | None
    p_value: float | None


def relative_change(arm: ArrayLike, baseline: ArrayLike, level: float = LEVEL) -> RelativeChange:
    """Relative change of the mean, values paired by seed, with Fieller's interval.

    Args:
        arm, baseline: shape [n], the same seed at the same place.

    Raises:
        ValueError: empty, not finite, of different lengths, or the baseline's mean is 0.

    Source: Fieller (1954), J. R. Statist. Soc. B 16, 175-185. The set of ratios r for which the paired t-test does not
    reject "mean of (arm - r baseline) is 0".
    """
    check_level(level)
    x, y = as_vector(arm, "arm"), as_vector(baseline, "baseline")
    same_shape(arm=x, baseline=y)
    count, mean_x, mean_y = len(x), float(x.mean()), float(y.mean())
    if mean_y == 0.0:
        raise ValueError("the baseline's mean is 0, so there is no relative change")
    ratio = mean_x / mean_y
    if count == 1:
        return RelativeChange(ratio - 1.0, 1, None)
    if is_constant(x) and is_constant(y):
        return RelativeChange(ratio - 1.0, count, Interval(ratio - 1.0, ratio - 1.0, level, "constant"))
    squared = t_quantile(0.5 + level / 2.0, count - 1) ** 2 / count
    var_x, var_y = float(x.var(ddof=1)) * squared, float(y.var(ddof=1)) * squared
    covariance = float(((x - mean_x) * (y - mean_y)).sum()) / (count - 1) * squared
    leading = mean_y**2 - var_y
    middle = mean_x * mean_y - covariance
    discriminant = middle**2 - leading * (mean_x**2 - var_x)
    if leading <= 0.0:  # the baseline's own mean may be 0: any ratio is possible
        return RelativeChange(ratio - 1.0, count, Interval(-math.inf, math.inf, level, "fieller"))
    root = math.sqrt(max(0.0, discriminant))
    low, high = (middle - root) / leading - 1.0, (middle + root) / leading - 1.0
    return RelativeChange(ratio - 1.0, count, Interval(low, high, level, "fieller"))


def compare_unpaired(first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> UnpairedComparison:
    """Mean of `first` minus mean of `second`, independent samples of any sizes and variances.

    For results that share no seeds; where seeds are shared, `compare_by_seed` is the right one. No interval and no
    test with fewer than 2 values on a side, or without any spread.

    Source: Welch (1947), Biometrika 34, 28-35, with Satterthwaite's degrees of freedom.
    """
    check_level(level)
    x, y = as_vector(first, "first"), as_vector(second, "second")
    difference, counts = float(x.mean() - y.mean()), (len(x), len(y))
    if min(counts) < 2:
        return UnpairedComparison(difference, counts, None, None, None)
    part_x = 0.0 if is_constant(x) else float(x.var(ddof=1)) / len(x)
    part_y = 0.0 if is_constant(y) else float(y.var(ddof=1)) / len(y)
    variance = part_x + part_y
    if variance == 0.0:
        return UnpairedComparison(difference, counts, Interval(difference, difference, level, "constant"), None, None)
    df = variance**2 / (part_x**2 / (len(x) - 1) + part_y**2 / (len(y) - 1))
    error = math.sqrt(variance)
    half = t_quantile(0.5 + level / 2.0, df) * error
    p_value = t_two_sided_p(difference / error, df)
    return UnpairedComparison(
        difference, counts, Interval(difference - half, difference + half, level, "welch"), df, p_value
    )
