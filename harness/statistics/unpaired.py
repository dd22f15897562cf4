"""Compare two samples that share no seeds: Welch's test."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike

from harness.statistics.distributions import t_quantile, t_two_sided_p
from harness.statistics.samples import LEVEL, Interval, as_vector, check_level, is_constant


@dataclass(frozen=True)
class UnpairedComparison:
    """Difference of the means of two independent samples, with Welch's interval and test; None where undefined."""

    mean_difference: float
    counts: tuple[int, int]
    interval: Interval | None
    df: float | None
    p_value: float | None


def compare_unpaired(first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> UnpairedComparison:
    """Mean of `first` minus mean of `second`, independent samples of any sizes and variances.

    For results that share no seeds; where seeds are shared, `compare_all` is the right one. No interval and no
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
