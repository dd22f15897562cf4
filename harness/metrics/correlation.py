"""Pearson's and Spearman's correlation: how far predicted numbers rise and fall with the right ones.

Source: Spearman (1904), Am. J. Psychology 15; influences as in Croux and Dehon (2010), Stat. Methods Appl. 19, with
middle ranks where values are equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.metrics.metric import ScoredMetric, case

Floats = NDArray[np.float64]


def pearson(references: Sequence[float], predictions: Sequence[float]) -> float:
    """Pearson's r; 0 where either side is constant, because nothing rises or falls there."""
    return _correlation(np.asarray(references, np.float64), np.asarray(predictions, np.float64))


def spearman(references: Sequence[float], predictions: Sequence[float]) -> float:
    """Pearson's r of the ranks; equal values share the mean of theirs."""
    return _correlation(*(_places(np.asarray(side, np.float64)) for side in (references, predictions)))


def _correlation(x_N: Floats, y_N: Floats) -> float:
    if np.ptp(x_N) == 0.0 or np.ptp(y_N) == 0.0:
        return 0.0
    # Each side by its largest deviation first: squares of very small or large numbers would not be finite.
    x_N, y_N = ((side - side.mean()) / np.abs(side - side.mean()).max() for side in (x_N, y_N))
    return float((x_N @ y_N) / np.sqrt((x_N @ x_N) * (y_N @ y_N)))


def _places(x_N: Floats) -> Floats:
    """The share of values below each, equal ones half counted: the middle rank, between 0 and 1; NaN stays NaN."""
    if np.isnan(x_N).any():
        return np.full_like(x_N, np.nan)
    return 1.0 - _sums_above(x_N, np.ones_like(x_N)) / len(x_N)


def _sums_above(x_N: Floats, weights_N: Floats) -> Floats:
    """For each value the sum of the weights of those above it, and half of those of its equals."""
    _, numbers = np.unique(x_N, return_inverse=True)
    of_value = np.bincount(numbers, weights_N)
    return np.asarray((of_value.sum() - np.cumsum(of_value) + of_value / 2.0)[numbers])


def pearson_influences(references: Sequence[float], predictions: Sequence[float]) -> Floats:
    """By how much each item moves r: z_x z_y - r (z_x^2 + z_y^2) / 2, by the number of items; shape [items]."""
    sides = [np.asarray(side, np.float64) for side in (references, predictions)]
    if any(np.ptp(side) == 0.0 for side in sides):
        return np.zeros(len(references))
    x_N, y_N = ((side - side.mean()) / side.std() for side in sides)
    return np.asarray((x_N * y_N - pearson(references, predictions) / 2.0 * (x_N**2 + y_N**2)) / len(x_N))


def spearman_influences(references: Sequence[float], predictions: Sequence[float]) -> Floats:
    """By how much each item moves the correlation of ranks, its share in the ranks of the others included."""
    sides = [np.asarray(side, np.float64) for side in (references, predictions)]
    if any(np.ptp(side) == 0.0 for side in sides):
        return np.zeros(len(references))
    count = len(references)
    u_N, v_N = map(_places, sides)
    covariance, *variances = ((one * other).mean() - 0.25 for one, other in ((u_N, v_N), (u_N, u_N), (v_N, v_N)))

    # Of E[U V], with U the place of x among all x: an item adds its own product, and moves the places of those above.
    def moved(one_N: Floats, other_N: Floats, x_N: Floats, y_N: Floats) -> Floats:
        own = one_N * other_N - 3.0 * (one_N * other_N).mean()
        return np.asarray(own + (_sums_above(x_N, other_N) + _sums_above(y_N, one_N)) / count)

    x_N, y_N = sides
    of_x, of_y = moved(u_N, u_N, x_N, x_N) / variances[0], moved(v_N, v_N, y_N, y_N) / variances[1]
    scale = float(np.sqrt(variances[0] * variances[1]))
    change = moved(u_N, v_N, x_N, y_N) / scale - covariance / scale / 2.0 * (of_x + of_y)
    return np.asarray(change / count)


PEARSON = ScoredMetric(
    direction="higher",
    unit="%",
    meaning="Pearson's correlation, 100 at the most",
    label="Pearson r",
    scorer=pearson,
    cases=(
        case([1, 2, 3], [2, 4, 6], 1.0),
        case([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], -1.0),
        case([0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0], 0.0),
        case([1, 2, 3, 4], [1, 3, 2, 4], 0.8),  # deviations -1.5 -0.5 0.5 1.5: (2.25 - .25 - .25 + 2.25) / 5
        case([1, 2, 3], [5, 5, 5], 0.0),  # constant
    ),
    linearised=pearson_influences,
    answers="number",
)

SPEARMAN = ScoredMetric(
    direction="higher",
    unit="%",
    meaning="Spearman's correlation of ranks, 100 at the most",
    label="Spearman r",
    scorer=spearman,
    cases=(
        case([1, 2, 3], [1, 10, 100], 1.0),
        case([1, 2, 3, 4], [1, 9, 4, 16], 0.8),  # ranks 1 3 2 4: 1 - 6 * 2 / (4 * 15)
        case([1, 1, 2], [1, 2, 3], 0.75**0.5),  # ranks 1.5 1.5 3 and 1 2 3: 1.5 / sqrt(1.5 * 2)
        case([3, 3], [1, 2], 0.0),  # constant
    ),
    linearised=spearman_influences,
    answers="number",
)
