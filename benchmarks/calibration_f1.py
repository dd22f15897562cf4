"""Macro-F1 of one system, or of two on the same items, with bootstrap intervals over items or blocks of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from calibration_scores import ItemScore
from numpy.typing import NDArray

from harness.statistics.bootstrap import NUM_RESAMPLES, Method, bootstrap_interval
from harness.statistics.items import Blocks, ItemComparison
from harness.statistics.samples import LEVEL, Floats, Interval, as_labels

Classes = Sequence[int] | NDArray[np.integer]


def macro_f1_score(
    references: Classes,
    predictions: Classes,
    num_classes: int,
    rng: np.random.Generator,
    blocks: Blocks = None,
    *,
    method: Method = "bootstrap_t",
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> ItemScore:
    """Macro-F1 as `harness.metrics.macro_f1` defines it (an absent class counts 0), with its interval.

    Args:
        references, predictions: shape [items], classes 0 ... num_classes - 1.

    Raises:
        ValueError: different lengths, or a class outside the range.
    """
    counts = _BlockCounts(references, [predictions], num_classes, blocks)
    value = float(counts.macro_f1(counts.ones(), [1.0])[0])
    interval = counts.interval([1.0], rng, method, num_resamples, level)
    return ItemScore(value, interval, counts.num_items, counts.num_blocks)


def compare_macro_f1(
    references: Classes,
    first: Classes,
    second: Classes,
    num_classes: int,
    rng: np.random.Generator,
    blocks: Blocks = None,
    *,
    method: Method = "bootstrap_t",
    num_resamples: int = NUM_RESAMPLES,
    num_swaps: int = 1_999,
    level: float = LEVEL,
) -> ItemComparison:
    """Macro-F1 of the first system minus that of the second, on the same items.

    The p-value is of the paired permutation test: the systems' predictions are swapped in random halves of the blocks
    (approximate randomisation; Noreen 1989, Yeh 2000).
    """
    counts = _BlockCounts(references, [first, second], num_classes, blocks)
    one, other = (float(counts.macro_f1(counts.ones(), signs)[0]) for signs in ([1.0, 0.0], [0.0, 1.0]))
    difference = one - other
    interval = counts.interval([1.0, -1.0], rng, method, num_resamples, level)
    p_value = _swap_test(counts, difference, rng, num_swaps)
    return ItemComparison(one, other, difference, interval, p_value, counts.num_items, counts.num_blocks)


class _BlockCounts:
    """Per block and class: reference count, and for each system the predicted count and the hits; [blocks, classes].

    Many blocks are alike (a single item is one of classes^3 kinds at most), so sums run over `kinds` of blocks:
    `membership` [blocks, kinds] turns weights of blocks into weights of kinds.
    """

    def __init__(self, references: Classes, systems: Sequence[Classes], num_classes: int, blocks: Blocks) -> None:
        truth = _classes(references, "references", num_classes)
        self.num_items, self.num_classes = len(truth), num_classes
        labels = np.arange(self.num_items) if blocks is None else as_labels(blocks, "blocks", self.num_items)
        self.num_blocks = int(labels.max()) + 1
        support = self._count(labels, truth, np.ones(self.num_items))
        self.predicted, self.hits = [], []
        for predictions in systems:
            guess = _classes(predictions, "predictions", num_classes)
            if len(guess) != self.num_items:
                raise ValueError(f"{self.num_items} references, but {len(guess)} predictions")
            self.predicted.append(self._count(labels, guess, np.ones(self.num_items)))
            self.hits.append(self._count(labels, truth, (guess == truth).astype(np.float64)))
        self.support = support
        rows = np.concatenate([support, *self.predicted, *self.hits], axis=1)
        unique, kind = np.unique(rows, axis=0, return_inverse=True)
        self.membership = np.zeros((self.num_blocks, len(unique)))
        self.membership[np.arange(self.num_blocks), kind.reshape(-1)] = 1.0
        parts = np.split(unique, 1 + 2 * len(systems), axis=1)
        self.kind_support, self.kind_predicted, self.kind_hits = (
            parts[0],
            parts[1 : 1 + len(systems)],
            parts[-len(systems) :],
        )

    def _count(self, labels: NDArray[np.int64], classes: NDArray[np.int64], values: Floats) -> Floats:
        size = self.num_blocks * self.num_classes
        flat = np.bincount(labels * self.num_classes + classes, weights=values, minlength=size)
        return flat.reshape(self.num_blocks, self.num_classes).astype(np.float64)

    def ones(self) -> Floats:
        return np.ones((1, self.num_blocks))

    def macro_f1(self, weights: Floats, signs: Sequence[float]) -> Floats:
        """Signed sum of the systems' macro-F1 in each resample; weights [resamples, blocks] -> [resamples]."""
        kinds = weights @ self.membership
        total = np.zeros(len(weights))
        for system, sign in enumerate(signs):
            either = kinds @ (self.kind_support + self.kind_predicted[system])
            total += sign * _mean_f1(kinds @ self.kind_hits[system], either)
        return total

    def standard_error(self, weights: Floats, signs: Sequence[float]) -> Floats:
        """Delta method: the root of the summed squared influence of the blocks on `macro_f1`."""
        kinds = weights @ self.membership
        influence = np.zeros_like(kinds)
        for system, sign in enumerate(signs):
            either = self.kind_support + self.kind_predicted[system]
            hits, total = kinds @ self.kind_hits[system], kinds @ either
            share = np.where(total > 0.0, 1.0 / np.maximum(total, 1e-300), 0.0)  # [resamples, classes]
            scores = 2.0 * hits * share
            influence += sign * (2.0 * share @ self.kind_hits[system].T - (scores * share) @ either.T)
        squares = (kinds * (influence / self.num_classes) ** 2).sum(axis=1)
        return np.sqrt(squares * self.num_blocks / (self.num_blocks - 1))

    def interval(
        self, signs: Sequence[float], rng: np.random.Generator, method: Method, num_resamples: int, level: float
    ) -> Interval | None:
        """Bootstrap interval of `macro_f1` over blocks; None with 1 block."""
        if self.num_blocks < 2:
            return None
        found = bootstrap_interval(
            lambda weights: self.macro_f1(weights, signs),
            self.num_blocks,
            rng,
            method=method,
            standard_error=lambda weights: self.standard_error(weights, signs),
            num_resamples=num_resamples,
            level=level,
        )
        return found.within(-1.0 if min(signs) < 0.0 else 0.0, 1.0)


def _swap_test(counts: _BlockCounts, difference: float, rng: np.random.Generator, num_swaps: int) -> float:
    if num_swaps < 1:
        raise ValueError(f"num_swaps {num_swaps!r} must be at least 1")
    keep = rng.integers(0, 2, size=(num_swaps, counts.num_blocks), dtype=np.int8).astype(np.float64)
    swap = 1.0 - keep
    scores = []
    for one, other in ((0, 1), (1, 0)):
        hits = keep @ counts.hits[one] + swap @ counts.hits[other]
        predicted = keep @ counts.predicted[one] + swap @ counts.predicted[other]
        scores.append(_mean_f1(hits, predicted + counts.support.sum(axis=0)))
    extreme = np.abs(scores[0] - scores[1]) >= abs(difference) - 1e-12
    return (1 + int(extreme.sum())) / (1 + num_swaps)


def _mean_f1(hits: Floats, total: Floats) -> Floats:
    return np.where(total > 0.0, 2.0 * hits / np.maximum(total, 1e-300), 0.0).mean(axis=1)


def _classes(values: Classes, name: str, num_classes: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name}: a vector of class numbers is needed, not {array.dtype} {array.shape}")
    if array.min() < 0 or array.max() >= num_classes:
        raise ValueError(f"{name}: classes {array.min()} to {array.max()} are not all in 0 ... {num_classes - 1}")
    return array.astype(np.int64)
