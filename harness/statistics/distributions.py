"""The normal and Student's t distribution, without SciPy.

A table needs a t quantile and a t probability a cell: with this module it starts 0.14 s (of CPU) earlier than with
`scipy.special` and 0.7 s earlier than with `scipy.stats` (docs/explanation/statistics.md). Tests compare each function
with SciPy.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

from harness.statistics.samples import check_level

_NORMAL = NormalDist()
_TINY = 1e-300
_MAX_STEPS = 20_000


def normal_cdf(z: float) -> float:
    """P(Z <= z) of the standard normal."""
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def normal_quantile(probability: float) -> float:
    """The z with P(Z <= z) = `probability`, which lies in (0, 1)."""
    return _NORMAL.inv_cdf(probability)


def t_two_sided_p(t: float, df: float) -> float:
    """P(|T| >= |t|) of Student's t with `df` > 0 degrees of freedom (real), accurate in the tails as well.

    I_x(df / 2, 1 / 2) at x = df / (df + t^2), the regularised incomplete beta function (DLMF 8.17).
    """
    if math.isinf(t):
        return 0.0
    return _regularised_beta(df / 2.0, 0.5, df / (df + t * t))


@lru_cache(maxsize=4096)
def t_quantile(probability: float, df: float) -> float:
    """The t with P(T <= t) = `probability`, by Newton's method inside a shrinking bracket.

    Raises:
        ValueError: `probability` outside (0, 1), or `df` not positive.
    """
    check_level(probability, "probability")
    if not df > 0:
        raise ValueError(f"degrees of freedom {df!r} must be positive")
    if probability == 0.5:
        return 0.0
    if probability < 0.5:
        return -t_quantile(1.0 - probability, df)
    target = 2.0 * (1.0 - probability)  # two-sided tail
    low, high = 0.0, 1.0
    while t_two_sided_p(high, df) > target:
        low, high = high, 2.0 * high
    t = max(low, min(high, normal_quantile(probability)))
    for _ in range(200):
        tail = t_two_sided_p(t, df)
        low, high = (t, high) if tail > target else (low, t)
        step = (tail - target) / (2.0 * _t_density(t, df))
        following = t + step
        if not low < following < high:
            following = 0.5 * (low + high)
        if abs(following - t) <= 1e-15 * max(1.0, abs(t)):
            break
        t = following
    return t


def hedges_correction(df: float) -> float:
    """The factor that makes a standardised mean difference unbiased under normality; nan for `df` <= 1.

    J = Gamma(df / 2) / (sqrt(df / 2) Gamma((df - 1) / 2)) (Hedges 1981, eq. 6e).
    """
    if df <= 1:
        return math.nan
    return math.exp(math.lgamma(df / 2.0) - math.lgamma((df - 1.0) / 2.0)) / math.sqrt(df / 2.0)


def _t_density(t: float, df: float) -> float:
    log_constant = math.lgamma((df + 1.0) / 2.0) - math.lgamma(df / 2.0) - 0.5 * math.log(df * math.pi)
    return math.exp(log_constant - (df + 1.0) / 2.0 * math.log1p(t * t / df))


def _regularised_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b) by the continued fraction DLMF 8.17.22 (modified Lentz), on the side where it converges fast."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - _regularised_beta(b, a, 1.0 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    fraction = d
    for m in range(1, _MAX_STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        for term in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + term * d)
            c = _away_from_zero(1.0 + term / c)
            fraction *= d * c
        if abs(d * c - 1.0) < 1e-16:
            break
    return math.exp(log_front) * fraction / a


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
