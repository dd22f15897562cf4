"""Bootstrap intervals over test-set items, for any statistic that is a function of the items' weights.

A resample of m blocks (utterances, speakers, documents, single items) is a vector of m counts that sum to m; a
statistic here is a function of such vectors, so all resamples are computed at once as a matrix product. The
leave-one-out values that BCa needs are the same function at weights of ones with a zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from harness.statistics.distributions import normal_cdf, normal_quantile
from harness.statistics.samples import LEVEL, Floats, Interval, check_level

Method = Literal["percentile", "bca", "bootstrap_t"]
METHODS: tuple[Method, ...] = ("percentile", "bca", "bootstrap_t")
Statistic = Callable[[Floats], Floats]  # weights [resamples, blocks] -> values [resamples]
NUM_RESAMPLES = 2_000
_CHUNK = 4_000_000  # weights held at once


def resample_weights(num_blocks: int, num_resamples: int, rng: np.random.Generator) -> Floats:
    """How often each block is drawn in each resample with replacement; shape [num_resamples, num_blocks]."""
    drawn = rng.integers(0, num_blocks, size=(num_resamples, num_blocks))
    drawn += np.arange(num_resamples)[:, None] * num_blocks  # own numbers for each resample: one bincount counts all
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_blocks)
    return counts.reshape(num_resamples, num_blocks).astype(np.float64)


def bootstrap_interval(
    statistic: Statistic,
    num_blocks: int,
    rng: np.random.Generator,
    *,
    method: Method = "bca",
    standard_error: Statistic | None = None,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """A bootstrap interval of `statistic` over blocks that are resampled together.

    Args:
        statistic: weights [resamples, blocks] -> values [resamples].
        standard_error: the same shapes; needed by `bootstrap_t` only.
        method: `percentile`, `bca` (bias-corrected and accelerated) or `bootstrap_t` (studentised).

    Returns:
        length 0 and method `constant` where no resample changes the value. `bootstrap_t` is unbounded on a side where
        more than a tail's share of the resamples has no spread, as with 3 blocks. The infinite end says that the data
        give no bound there.

    Raises:
        ValueError: fewer than 2 blocks, an unknown method, or `bootstrap_t` without a standard error.

    Sources: Efron (1987), J. Amer. Statist. Assoc. 82, 171-185 (BCa); Efron and Tibshirani (1993), chapters 12 to 14.
    """
    check_level(level)
    if num_blocks < 2:
        raise ValueError(f"a bootstrap needs at least 2 blocks, not {num_blocks} block(s)")
    if method not in METHODS:
        raise ValueError(f"bootstrap method {method!r}; choices: {', '.join(METHODS)}")
    if method == "bootstrap_t" and standard_error is None:
        raise ValueError("bootstrap_t needs a standard_error function")
    ones = np.ones((1, num_blocks))
    observed = float(statistic(ones)[0])
    values, errors = _resample(
        statistic, standard_error if method == "bootstrap_t" else None, num_blocks, num_resamples, rng
    )
    if np.ptp(values) <= 1e-12 * max(abs(observed), 1e-300):
        return Interval(observed, observed, level, "constant")
    tail = (1.0 - level) / 2.0
    if method == "bootstrap_t" and standard_error is not None and errors is not None:
        return _studentised(observed, float(standard_error(ones)[0]), values, errors, level)
    if method == "percentile":
        low, high = np.quantile(values, (tail, 1.0 - tail))
    else:
        low, high = np.quantile(values, _bca_levels(observed, values, _leave_one_out(statistic, num_blocks), tail))
    return Interval(float(low), float(high), level, method)


def _resample(
    statistic: Statistic,
    standard_error: Statistic | None,
    num_blocks: int,
    num_resamples: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats | None]:
    rows = max(1, _CHUNK // num_blocks)
    values, errors = [], []
    for start in range(0, num_resamples, rows):
        weights = resample_weights(num_blocks, min(rows, num_resamples - start), rng)
        values.append(statistic(weights))
        if standard_error is not None:
            errors.append(standard_error(weights))
    return np.concatenate(values), np.concatenate(errors) if errors else None


def _leave_one_out(statistic: Statistic, num_blocks: int) -> Floats:
    rows = max(1, _CHUNK // num_blocks)
    values = []
    for start in range(0, num_blocks, rows):
        size = min(rows, num_blocks - start)
        weights = np.ones((size, num_blocks))
        weights[np.arange(size), start + np.arange(size)] = 0.0
        values.append(statistic(weights))
    return np.concatenate(values)


def _bca_levels(observed: float, values: Floats, left_out: Floats, tail: float) -> tuple[float, float]:
    """The two quantile levels of BCa; ties with the observed value count half."""
    below = float(np.mean(values < observed) + 0.5 * np.mean(values == observed))
    edge = 0.5 / len(values)  # keeps the quantile finite where all resamples lie on one side
    bias = normal_quantile(min(max(below, edge), 1.0 - edge))
    deviations = left_out.mean() - left_out
    spread = float((deviations**2).sum()) ** 1.5
    acceleration = float((deviations**3).sum()) / (6.0 * spread) if spread > 0.0 else 0.0
    levels = []
    for z in (normal_quantile(tail), normal_quantile(1.0 - tail)):
        shifted = bias + z
        levels.append(normal_cdf(bias + shifted / (1.0 - acceleration * shifted)))
    return levels[0], levels[1]


def _studentised(observed: float, error: float, values: Floats, errors: Floats, level: float) -> Interval:
    """Bootstrap-t; a resample without any spread counts as an infinite ratio on the side where it lies."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (values - observed) / errors
    ratios = np.where(np.isnan(ratios), 0.0, ratios)
    tail = (1.0 - level) / 2.0
    low = np.quantile(ratios, tail, method="lower")  # no interpolation between infinities, and alike on both sides
    high = np.quantile(ratios, 1.0 - tail, method="higher")
    return Interval(
        observed - float(high) * error if math.isfinite(high) else -math.inf,
        observed - float(low) * error if math.isfinite(low) else math.inf,
        level,
        "bootstrap_t",
    )
