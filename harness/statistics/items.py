"""Compare the error rates of two systems on one test set, with an interval and a test over its items.

An error rate is a ratio of sums (errors by reference length), and items of one speaker, document or template depend
on one another: whole blocks are resampled, numerator and denominator together, both systems together (Bisani and Ney
2004).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.statistics.bootstrap import NUM_RESAMPLES, Method, bootstrap_interval
from harness.statistics.permutation import sign_flip_test
from harness.statistics.samples import LEVEL, Floats, Interval, as_labels, as_vector, same_shape

Blocks = Sequence[Any] | NDArray[Any] | None
Bounds = tuple[float, float]
UNBOUNDED: Bounds = (-math.inf, math.inf)


@dataclass(frozen=True)
class ItemComparison:
    """Two systems on the same items; difference and interval are first minus second.

    Attributes:
        p_value: two-sided, of the sign-flip test in which the systems are swapped block by block.
        interval: of the difference; None with 1 block.
    """

    first: float
    second: float
    difference: float
    interval: Interval | None
    p_value: float
    num_items: int
    num_blocks: int


def compare_error_rates(
    first: ArrayLike,
    second: ArrayLike,
    lengths: ArrayLike,
    rng: np.random.Generator,
    blocks: Blocks = None,
    *,
    method: Method = "bootstrap_t",
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> ItemComparison:
    """WER or CER of the first system minus that of the second, on the same utterances.

    Args:
        first, second: shape [utterances], edit operations of each system.
        lengths: shape [utterances], reference words (or characters).
        blocks: shape [utterances], a label each (speaker, recording session); None takes each utterance by itself.

    Raises:
        ValueError: shapes differ, not finite, negative, or no reference at all.

    Sources: Bisani and Ney (2004), ICASSP, "Bootstrap estimates for confidence intervals in ASR performance
    evaluation", for the interval; the test swaps the systems' outputs in whole blocks.
    """
    x, y, n = errors_of(first, "first"), errors_of(second, "second"), lengths_of(lengths)
    same_shape(first=x, second=y, lengths=n)
    ratio = Ratio.over_blocks(x - y, n, blocks)
    test = sign_flip_test(ratio.numerator, rng)
    interval = ratio.interval(rng, method, num_resamples, level)
    total = float(n.sum())
    return ItemComparison(
        float(x.sum()) / total,
        float(y.sum()) / total,
        ratio.value,
        interval,
        test.p_value,
        len(n),
        len(ratio.numerator),
    )


@dataclass(frozen=True)
class Ratio:
    """Sum of numerators divided by sum of denominators, both given per block."""

    numerator: Floats
    denominator: Floats
    num_items: int

    @classmethod
    def over_blocks(cls, numerator: Floats, denominator: Floats, blocks: Blocks) -> Ratio:
        same_shape(errors=numerator, lengths=denominator)
        if blocks is None:
            return cls(numerator, denominator, len(numerator))
        labels = as_labels(blocks, "blocks", len(numerator))
        sums = [np.bincount(labels, values).astype(np.float64) for values in (numerator, denominator)]
        return cls(sums[0], sums[1], len(numerator))

    @property
    def value(self) -> float:
        return float(self.numerator.sum()) / float(self.denominator.sum())

    def statistic(self, weights: Floats) -> Floats:
        return (weights @ self.numerator) / np.maximum(weights @ self.denominator, 1e-300)

    def standard_error(self, weights: Floats) -> Floats:
        """Linearised: sqrt(m / (m - 1) * sum of (numerator - ratio * denominator)^2) / sum of denominators."""
        x, n, m = self.numerator, self.denominator, len(self.numerator)
        products = weights @ np.stack([x, n, x * x, x * n, n * n], axis=1)
        ratio = products[:, 0] / np.maximum(products[:, 1], 1e-300)
        squares = products[:, 2] - 2.0 * ratio * products[:, 3] + ratio**2 * products[:, 4]
        return np.sqrt(np.maximum(squares, 0.0) * m / (m - 1)) / np.maximum(products[:, 1], 1e-300)

    def interval(
        self, rng: np.random.Generator, method: Method, num_resamples: int, level: float, bounds: Bounds = UNBOUNDED
    ) -> Interval | None:
        """The bootstrap interval over blocks, cut to the values that are possible; None with 1 block."""
        if len(self.numerator) < 2:
            return None
        found = bootstrap_interval(
            self.statistic,
            len(self.numerator),
            rng,
            method=method,
            standard_error=self.standard_error,
            num_resamples=num_resamples,
            level=level,
        )
        return found.within(*bounds)


def errors_of(values: ArrayLike, name: str) -> Floats:
    """Numbers of errors as a vector; ValueError where one is negative or not finite."""
    errors = as_vector(values, name)
    if (errors < 0).any():
        raise ValueError(f"{name}: a number of errors is negative")
    return errors


def lengths_of(values: ArrayLike) -> Floats:
    """Reference lengths as a vector; ValueError where one is negative or not finite, or all are 0."""
    lengths = as_vector(values, "lengths")
    if (lengths < 0).any() or lengths.sum() == 0:
        raise ValueError("lengths: reference lengths must not be negative, nor all 0")
    return lengths
