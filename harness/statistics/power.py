"""Power of a paired t-test over n seeds, the smallest difference it detects, and how many seeds it needs."""

from __future__ import annotations

import math
from functools import lru_cache

from harness.statistics.distributions import normal_quantile, t_quantile, t_test_power
from harness.statistics.samples import check_level

ALPHA = 0.05
POWER = 0.80
MAX_SEEDS = 100_000  # an effect that needs more is reported as not reachable


def paired_test_power(difference: float, sd: float, count: int, alpha: float = ALPHA) -> float:
    """Chance that a two-sided paired t-test over `count` seeds finds a true mean `difference`.

    Args:
        difference: true mean paired difference, in the metric's unit.
        sd: standard deviation of the paired differences, same unit, > 0.
        count: number of paired seeds, at least 2.

    Source: Cohen (1988), chapter 2; exact through the noncentral t distribution.
    """
    _check(sd, alpha)
    if count < 2:
        raise ValueError(f"a paired t-test needs at least 2 seeds, not {count}")
    return t_test_power(abs(difference) / sd * math.sqrt(count), count - 1, alpha)


def detectable_difference(sd: float, count: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest true mean difference that the test over `count` seeds finds with chance `power`.

    In the unit of `sd` (the standard deviation of the paired differences); `sd` is taken as known, so with few seeds
    the answer is as uncertain as `sd` is.
    """
    _check(sd, alpha, power)
    if count < 2:
        raise ValueError(f"a paired t-test needs at least 2 seeds, not {count}")
    return sd * detectable_effect(count, alpha, power)


@lru_cache(maxsize=1024)
def detectable_effect(count: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """`detectable_difference` in standard deviations of the differences; depends on the number of seeds alone."""
    df = count - 1
    high = t_quantile(1.0 - alpha / 2.0, df) + abs(normal_quantile(power))
    while t_test_power(high, df, alpha) < power:
        high *= 1.5
    low = 0.0
    while high - low > 1e-10 * high:  # bisection: the power grows with the noncentrality
        middle = 0.5 * (low + high)
        low, high = (middle, high) if t_test_power(middle, df, alpha) < power else (low, middle)
    return high / math.sqrt(count)


def seeds_needed(difference: float, sd: float, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """The smallest number of paired seeds at which a true mean `difference` is found with chance `power`.

    Returns:
        at least 2; None if more than `MAX_SEEDS` seeds would be needed (always, for a `difference` of 0).

    Put in an *observed* difference, the answer inherits its error (the "winner's curse": a difference that was selected
    for being significant is too large on average); name the smallest difference that matters instead where you can.
    """
    _check(sd, alpha, power)
    effect = abs(difference) / sd
    if paired_test_power(effect, 1.0, MAX_SEEDS, alpha) < power:
        return None
    # The normal approximation needs fewer seeds than the t-test, so it is where the search starts.
    high = max(2, math.ceil(((normal_quantile(1.0 - alpha / 2.0) + normal_quantile(power)) / effect) ** 2))
    high = min(high, MAX_SEEDS)
    while paired_test_power(effect, 1.0, high, alpha) < power:
        high = min(MAX_SEEDS, high + max(1, high // 10))
    low = 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if paired_test_power(effect, 1.0, middle, alpha) < power else (low, middle)
    return high


def _check(sd: float, alpha: float, power: float = POWER) -> None:
    if not (math.isfinite(sd) and sd > 0):
        raise ValueError(f"sd {sd!r} must be positive: differences without variation have no power to compute")
    check_level(alpha, "alpha")
    check_level(power, "power")
