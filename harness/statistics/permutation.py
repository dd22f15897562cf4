"""The paired permutation (sign-flip) test on one test set, which assumes no distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.statistics.samples import Floats, as_labels, as_vector

MAX_EXACT = 16  # items (or clusters) up to which all 2^n sign patterns are enumerated
_CHUNK = 2_000_000  # numbers held at once while permuting


@dataclass(frozen=True)
class PermutationTest:
    """Mean paired difference and the two-sided p-value of the sign-flip test; `exact` if every pattern was counted."""

    mean_difference: float
    p_value: float
    exact: bool
    num_units: int


def sign_flip_test(
    differences: ArrayLike,
    rng: np.random.Generator,
    clusters: Sequence[Any] | NDArray[Any] | None = None,
    num_flips: int = 9_999,
) -> PermutationTest:
    """Paired permutation test: under "no difference" the two systems' scores on an item could be swapped.

    Args:
        differences: shape [items], score of the first minus score of the second (correct 0/1, errors, F1 ...).
        rng: draws the sign patterns when there are too many to count all.
        clusters: shape [items], a label each (speaker, document): items of a cluster are swapped together.
        num_flips: number of random patterns; p = (1 + as extreme) / (1 + num_flips), which never is 0 and holds its
            level exactly.

    Two-sided on |sum of differences|. With n units the smallest possible p is 2 / 2^n: 0.25 for 3, 0.0625 for 5, so
    over 3 or 5 seeds this test can never reject at 5 %.

    Sources: Fisher (1935), The Design of Experiments, section 21; Phipson and Smyth (2010) for the + 1.
    """
    values = as_vector(differences, "differences")
    if num_flips < 1:
        raise ValueError(f"num_flips {num_flips!r} must be at least 1")
    units = values if clusters is None else cluster_sums(values, clusters)
    units_that_differ = units[units != 0.0]
    mean, count = float(values.mean()), len(units_that_differ)
    if count == 0:
        return PermutationTest(mean, 1.0, True, len(units))
    observed = abs(math.fsum(units_that_differ)) * (1.0 - 1e-12)  # ties up to rounding count as extreme
    if count <= MAX_EXACT:
        extreme = np.abs(_all_signs(count) @ units_that_differ) >= observed
        return PermutationTest(mean, float(extreme.mean()), True, len(units))
    hits, rows = 0, max(1, _CHUNK // count)
    for start in range(0, num_flips, rows):
        size = (min(rows, num_flips - start), count)
        signs = rng.integers(0, 2, size=size, dtype=np.int8).astype(np.float64) * 2.0 - 1.0
        hits += int((np.abs(signs @ units_that_differ) >= observed).sum())
    return PermutationTest(mean, (1 + hits) / (1 + num_flips), False, len(units))


def cluster_sums(values: Floats, clusters: Sequence[Any] | NDArray[Any]) -> Floats:
    """Sum of the values in each cluster, in the order of first appearance; shape [clusters]."""
    labels = as_labels(clusters, "clusters", len(values))
    return np.bincount(labels, weights=values).astype(np.float64)


def _all_signs(count: int) -> Floats:
    """All sign patterns, shape [2^count, count]."""
    patterns = np.arange(2**count)[:, None] >> np.arange(count)[None, :]  # row i: the binary digits of i
    return (patterns & 1).astype(np.float64) * 2.0 - 1.0
