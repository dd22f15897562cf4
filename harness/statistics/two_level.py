"""Intervals for a difference that account for two errors at once: the choice of seeds and the choice of test items.

Every seed's model is tested on the same items, so seeds and items are crossed, not nested.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from harness.statistics.bootstrap import NUM_RESAMPLES, resample_weights
from harness.statistics.distributions import t_quantile, t_two_sided_p
from harness.statistics.items import Blocks
from harness.statistics.permutation import cluster_sums
from harness.statistics.samples import LEVEL, Floats, Interval, as_matrix, as_vector, check_level

TwoLevelMethod = Literal["satterthwaite", "bootstrap"]


@dataclass(frozen=True)
class TwoLevelResult:
    """A ratio of sums over seeds and items with an interval for both errors.

    `seed_error` and `item_error` are the standard errors that each of the two contributes alone.
    """

    value: float
    interval: Interval | None
    p_value: float | None
    df: float | None
    seed_error: float
    item_error: float
    num_seeds: int
    num_blocks: int


def two_level(
    differences: ArrayLike,
    rng: np.random.Generator,
    lengths: ArrayLike | None = None,
    blocks: Blocks = None,
    *,
    method: TwoLevelMethod = "satterthwaite",
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> TwoLevelResult:
    """Mean over seeds of (sum of differences by sum of lengths), for new seeds and new items of the same kind.

    Args:
        differences: shape [seeds, items], first system minus second, paired by seed and item: errors for WER and CER,
            0/1 correct for accuracy. (One system alone works as well: its errors.)
        lengths: shape [items]; None counts each item once.
        blocks: shape [items], a label each; items of a block stay together.
        method: `satterthwaite`, t interval with the variance of crossed random effects (Clark 1973's quasi-F; Baayen
            et al. 2008); `bootstrap`, seeds and blocks resampled independently, percentiles (the pigeonhole bootstrap,
            Owen 2007): too short where the error of few seeds dominates, too long where the interaction does.

    Returns:
        interval, p_value and df None with fewer than 2 seeds or blocks, or where nothing varies.

    Raises:
        ValueError: shapes differ, not finite, or an unknown method.
    """
    check_level(level)
    matrix, denominator = _blocked(as_matrix(differences, "differences"), lengths, blocks)
    num_seeds, num_blocks = matrix.shape
    total = float(denominator.sum())
    value = float(matrix.mean(axis=0).sum()) / total
    if num_seeds < 2 or num_blocks < 2:
        return TwoLevelResult(value, None, None, None, math.nan, math.nan, num_seeds, num_blocks)
    if method not in ("satterthwaite", "bootstrap"):
        raise ValueError(f"method {method!r}; choices: satterthwaite, bootstrap")
    residuals = (matrix - value * denominator) * num_blocks / total  # linearised: their mean is 0
    variance, df, seed_error, item_error = _crossed_variance(residuals)
    interval, p_value = None, None
    if variance > 0.0 and df is not None:
        error = math.sqrt(variance)
        half = t_quantile(0.5 + level / 2.0, df) * error
        p_value = t_two_sided_p(value / error, df)
        interval = Interval(value - half, value + half, level, "satterthwaite")
        if method == "bootstrap":
            interval = _pigeonhole(matrix, denominator, rng, num_resamples, level)
    return TwoLevelResult(value, interval, p_value, df, seed_error, item_error, num_seeds, num_blocks)


def _blocked(matrix: Floats, lengths: ArrayLike | None, blocks: Blocks) -> tuple[Floats, Floats]:
    denominator = np.ones(matrix.shape[1]) if lengths is None else as_vector(lengths, "lengths")
    if denominator.shape != (matrix.shape[1],) or (denominator < 0).any() or denominator.sum() == 0:
        raise ValueError(f"lengths: one for each of the {matrix.shape[1]} items is needed, not negative, nor all 0")
    if blocks is None:
        return matrix, denominator
    summed = np.stack([cluster_sums(row, blocks) for row in matrix])
    return summed, cluster_sums(denominator, blocks)


def _crossed_variance(residuals: Floats) -> tuple[float, float | None, float, float]:
    """Variance of the grand mean under crossed random effects, its Satterthwaite df, and the two standard errors.

    Mean squares of rows (seeds), columns (items) and interaction estimate the variance as
    (MS_rows + MS_columns - MS_interaction) / (rows * columns), and never less than the larger of the two alone.
    """
    rows, columns = residuals.shape
    grand = residuals.mean()
    row_means, column_means = residuals.mean(axis=1), residuals.mean(axis=0)
    ms_rows = columns * float(((row_means - grand) ** 2).sum()) / (rows - 1)
    ms_columns = rows * float(((column_means - grand) ** 2).sum()) / (columns - 1)
    interaction = residuals - row_means[:, None] - column_means[None, :] + grand
    ms_interaction = float((interaction**2).sum()) / ((rows - 1) * (columns - 1))
    cells = rows * columns
    variance = max(ms_rows + ms_columns - ms_interaction, ms_rows, ms_columns) / cells
    terms = ms_rows**2 / (rows - 1) + ms_columns**2 / (columns - 1) + ms_interaction**2 / ((rows - 1) * (columns - 1))
    df = max(float(rows - 1), (variance * cells) ** 2 / terms) if terms > 0.0 else None
    return variance, df, math.sqrt(ms_rows / cells), math.sqrt(ms_columns / cells)


def _pigeonhole(
    matrix: Floats, denominator: Floats, rng: np.random.Generator, num_resamples: int, level: float
) -> Interval:
    num_seeds, num_blocks = matrix.shape
    seeds = resample_weights(num_seeds, num_resamples, rng) / num_seeds
    items = resample_weights(num_blocks, num_resamples, rng)
    values = ((seeds @ matrix) * items).sum(axis=1) / np.maximum(items @ denominator, 1e-300)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(values, (tail, 1.0 - tail))
    return Interval(float(low), float(high), level, "bootstrap")
