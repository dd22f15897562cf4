"""What the true variance over seeds of a cell may be: by its own sample alone, or with a prior that its table lends it.

A prior that is right for most cells is wrong for an arm that diverges. So a cell whose sample variance is implausibly
large beside those of the other arms gets no prior (hypervariable genes are treated alike: Phipson et al. 2016, Annals
of Applied Statistics 10:2). A sample variance that is implausibly small keeps it: the interval is too wide then, rather
than too narrow, and with few seeds such a sample is small by chance more often than not. In a column whose arms are of
two kinds, quiet ones and others, there is no typical variance, so none is lent.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.statistics.samples import Floats

LOG_VARIANCE = np.linspace(-5.0, 7.0, 49)  # of a cell, relative to its column's level
ARM_EFFECT = np.linspace(-4.0, 5.0, 31)
LOUD = 6.0  # log sample variance, relative as well, above which both reach further up, or they would cut it off
LOUDEST = 15.0  # and no further than for this one: 1,800 times the typical sd
ARM_SPREADS, CELL_SPREADS = (0.5, 1.0, 1.7), (0.5, 1.0, 1.6)
ARM_WEIGHT = 0.5  # of a column's evidence on its arm: metrics of one training correlate
IMPLAUSIBLE = 0.05  # chance of so large a sample variance below which a cell is left to itself
MIXED = 3.0  # median distance of arms' log variances from their level above which a column has no level
MEDIAN_VARIANCE = 1.57  # of a median, relative to that of a mean (pi / 2)

Numbers = NDArray[np.int64]
Posterior = tuple[Floats, Floats]  # possible variances and their weights


def flat_posterior(variance: float, df: int, rule: tuple[int, float]) -> Posterior:
    """Possible true variances and their weights, given a sample's.

    Under a flat prior of the log variance, df * sample variance / variance is chi-squared, which makes a t-test of a
    z-test.

    Args:
        rule: how many variances there are, and how unlikely the least likely of them is (log of its share).
    """
    # The log of a chi-squared variable: its density falls as exp(df x / 2) to the left, double exponentially to the
    # right, and is smooth, so the trapezoidal rule converges fast.
    points, depth = rule
    narrow = math.sqrt(4.0 * depth / df)  # the bounds of a normal density of the same width
    middle = math.log(df)
    left = middle - max(1.0 + 2.0 * depth / df, 1.3 * narrow)
    x = np.linspace(left, middle + math.log1p(depth / df + narrow), points)
    log_density = 0.5 * df * x - 0.5 * np.exp(x)
    density = np.exp(log_density - log_density.max())
    return df * variance / np.exp(x), density / density.sum()


def shared_posteriors(
    variance: Floats, df: Numbers, arms: Sequence[Hashable], columns: Sequence[Hashable]
) -> list[Posterior | None]:
    """Possible true variances of cells and their weights, where each cell has a prior from the others.

    Args:
        variance, df: of the samples, [cells].
        arms, columns: of each cell.

    Returns:
        one of each cell; None where it is left to itself: its sample variance is implausibly large beside the others,
        or its column has no typical variance.
    """
    log_variance, of_column = np.log(variance), _numbers(columns)
    unbiased = log_variance - np.array([digamma_of_half(int(d)) - math.log(d / 2.0) for d in df])
    level = _medians(unbiased, of_column)
    known = np.flatnonzero(_medians(np.abs(unbiased - level), of_column) <= MIXED)
    found: list[Posterior | None] = [None] * len(variance)
    if not known.size:
        return found
    relative = log_variance[known] - level[known]
    grid, effects = _grids(float(relative.max()))
    of_arm = _numbers([arms[i] for i in known.tolist()])
    weights, tail = _weights(relative, df[known], of_arm, of_column[known], grid, effects)
    plausible = (tail >= IMPLAUSIBLE) & (relative <= LOUDEST)
    for place, i in enumerate(known):
        if plausible[place]:
            found[i] = np.exp(level[i] + grid), weights[place]
    return found


def _grids(loudest: float) -> tuple[Floats, Floats]:
    """LOG_VARIANCE and ARM_EFFECT, both as far up as the loudest cell needs, by the same steps."""
    further = max(0.0, min(loudest, LOUDEST) - LOUD)
    grids = []
    for grid in (LOG_VARIANCE, ARM_EFFECT):
        step = float(grid[1] - grid[0])
        grids.append(np.append(grid, grid[-1] + step * np.arange(1, math.ceil(further / step) + 1)))
    return grids[0], grids[1]


def _weights(
    relative: Floats, df: Numbers, arms: Numbers, columns: Numbers, grid: Floats, effects: Floats
) -> tuple[Floats, Floats]:
    """Posterior weights over the grid, [cells, grid]; and a cell's chance of so large a sample variance, [cells].

    Args:
        relative: log sample variances minus their level.
    """
    likelihood = _likelihood(np.minimum(relative, LOUDEST), df, grid)
    exceeding = _exceeding(relative, df, grid)
    level_variance = _level_variance(df, columns)
    sums = np.zeros((int(arms.max()) + 1, len(arms)))
    sums[arms, np.arange(len(arms))] = ARM_WEIGHT
    results, evidences, tails = [], [], []
    for cell_spread in CELL_SPREADS:
        kernel = _kernel(cell_spread**2 + level_variance / 2.0, grid, effects)  # [cells, arm effects, grid]
        log_marginal = np.log(np.einsum("kg,kug->ku", likelihood, kernel) + 1e-300)
        above = np.einsum("kg,kug->ku", exceeding, kernel)
        of_arm = sums @ log_marginal
        for arm_spread in ARM_SPREADS:
            log_prior = -2.5 * np.log1p((effects / arm_spread) ** 2 / 4.0)
            log_prior -= math.log(float(np.exp(log_prior).sum()))
            evidences.append(np.logaddexp.reduce(log_prior + of_arm, axis=1))  # [arms]
            tails.append(above @ np.exp(log_prior))
            others = log_prior + of_arm[arms] - ARM_WEIGHT * log_marginal  # a cell's prior leaves its own column out
            effect = np.exp(others - others.max(axis=1, keepdims=True))
            posterior = np.einsum("ku,kug->kg", effect, kernel) * likelihood
            results.append(posterior / posterior.sum(axis=1, keepdims=True))
    evidence = np.stack(evidences)
    shares = _softmax(evidence.sum(axis=1))
    # How much arms differ is told by the other arms here: an arm that diverges must not make itself plausible.
    of_others = _softmax(evidence.sum(axis=1)[:, None] - evidence)[:, arms]
    return np.einsum("t,tkg->kg", shares, np.stack(results)), np.einsum("tk,tk->k", of_others, np.stack(tails))


def _softmax(logs: Floats) -> Floats:
    shares = np.exp(logs - logs.max(axis=0))
    return np.asarray(shares / shares.sum(axis=0), dtype=np.float64)


def _medians(values: Floats, columns: Numbers) -> Floats:
    """The median of each cell's column, [cells]."""
    medians = {column: np.median(values[columns == column]) for column in np.unique(columns)}
    return np.array([medians[column] for column in columns])


def _level_variance(df: Numbers, columns: Numbers) -> Floats:
    """The variance of each cell's level: it is a median over few arms, so its error is part of a cell's, too."""
    return np.array(
        [
            MEDIAN_VARIANCE * trigamma_of_half(int(d)) / np.count_nonzero(columns == column)
            for d, column in zip(df, columns, strict=True)
        ]
    )


def _likelihood(relative: Floats, df: Numbers, grid: Floats) -> Floats:
    """Of each true log variance of the grid, given a sample's, [cells, grid]; the largest of a cell is about 1."""
    excess = relative[:, None] - grid
    log_likelihood = df[:, None] / 2.0 * (excess - np.exp(excess) + 1.0)
    largest = log_likelihood.max(axis=1, keepdims=True)  # 0 on the grid; far below it, all would round to 0
    return np.exp(log_likelihood - np.where(largest < -100.0, largest, 0.0))


def _exceeding(relative: Floats, df: Numbers, grid: Floats) -> Floats:
    """The chance of a larger sample variance than a cell's, by true log variance, [cells, grid].

    The upper tail of chi-squared with an integer number of degrees of freedom (DLMF 8.4.6, 8.4.10, 8.8.6).
    """
    log_half = np.log(df / 2.0)[:, None] + np.minimum(relative[:, None] - grid, 50.0)
    half = np.exp(log_half)  # of df * sample variance / variance
    found = np.empty_like(half)
    for d in np.unique(df):
        rows = df == d
        x, log_x = half[rows], log_half[rows]
        found[rows] = np.exp(-x) if d % 2 == 0 else erfc(np.sqrt(x))
        for step in _steps(int(d)):
            found[rows] += np.exp(step * log_x - x - math.lgamma(step + 1.0))
    return found


def _kernel(variance: Floats, grid: Floats, effects: Floats) -> Floats:
    """Normal densities of a cell's log variance around each arm effect, [cells, arm effects, grid]; rows sum to 1."""
    distance = grid - effects[:, None]
    known: dict[float, Floats] = {}
    for value in variance:
        if float(value) not in known:
            density = np.exp(-0.5 * distance**2 / value)
            known[float(value)] = density / density.sum(axis=1, keepdims=True)
    return np.stack([known[float(value)] for value in variance])


def _numbers(labels: Sequence[Hashable]) -> Numbers:
    index = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return np.array([index[label] for label in labels], dtype=np.int64)


def digamma_of_half(d: int) -> float:
    """digamma(d / 2) for an integer d >= 1 (DLMF 5.4.14, 5.4.15, 5.5.2)."""
    value = -0.5772156649015329 - (2.0 * math.log(2.0) if d % 2 else 0.0)
    return value + math.fsum(1.0 / x for x in _steps(d))


def trigamma_of_half(d: int) -> float:
    """trigamma(d / 2) for an integer d >= 1 (DLMF 5.15.3, 5.15.5)."""
    value = math.pi**2 / (2.0 if d % 2 else 6.0)
    return value - math.fsum(1.0 / x**2 for x in _steps(d))


def _steps(d: int) -> list[float]:
    """The arguments below d / 2, by ones, from 1 / 2 or 1."""
    start = 0.5 if d % 2 else 1.0
    return [start + step for step in range(round(d / 2.0 - start))]


_erfc = np.frompyfunc(math.erfc, 1, 1)


def erfc(x: Floats) -> Floats:
    """The complementary error function of each number."""
    return np.asarray(_erfc(x), dtype=np.float64)
