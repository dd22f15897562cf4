"""Paired tests on one test set that need no distribution: McNemar, and the permutation (sign-flip) test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.statistics.samples import Floats, as_labels, as_vector, same_shape

MAX_EXACT = 16  # items (or clusters) up to which all 2^n sign patterns are enumerated
_CHUNK = 2_000_000  # numbers held at once while permuting


@dataclass(frozen=True)
class McNemar:
    """McNemar's test: `only_first` items that only the first system got right, `only_second` the other way round.

    `exact` never exceeds its level and is conservative; `mid_p` is close to its level on average (Fagerland et al.
    2013 recommend it) and is the one to print.
    """

    only_first: int
    only_second: int
    exact: float
    mid_p: float


@dataclass(frozen=True)
class PermutationTest:
    """Mean paired difference and the two-sided p-value of the sign-flip test; `exact` if every pattern was counted."""

    mean_difference: float
    p_value: float
    exact: bool
    num_units: int


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """Test whether two systems are right equally often on the same items.

    Args:
        first, second: shape [items], 1 or True where the system was right.

    Raises:
        ValueError: different lengths, or values other than 0 and 1.

    Sources: McNemar (1947), Psychometrika 12; exact and mid-p from the binomial of the discordant items, Fagerland,
    Lydersen and Laake (2013), BMC Medical Research Methodology 13:91. Items must be independent: for clustered items
    (sentences of one document, say) use `sign_flip_test` with `clusters`.
    """
    x, y = as_vector(first, "first"), as_vector(second, "second")
    same_shape(first=x, second=y)
    for name, array in (("first", x), ("second", y)):
        if not np.isin(array, (0.0, 1.0)).all():
            raise ValueError(f"{name}: McNemar's test needs right (1) or wrong (0) for each item")
    only_first, only_second = int(((x == 1) & (y == 0)).sum()), int(((x == 0) & (y == 1)).sum())
    total, smaller = only_first + only_second, min(only_first, only_second)
    if total == 0:
        return McNemar(0, 0, 1.0, 1.0)
    terms = np.array([_binomial_half(k, total) for k in range(smaller + 1)])
    tail = math.fsum(terms)
    exact = min(1.0, 2.0 * tail)
    if only_first == only_second:
        return McNemar(only_first, only_second, exact, 1.0 - 0.5 * _binomial_half(smaller, total))
    return McNemar(only_first, only_second, exact, 2.0 * (tail - 0.5 * float(terms[-1])))


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
    patterns = np.arange(2**count)[:, None] >> np.arange(count)[None, :]
    return (patterns & 1).astype(np.float64) * 2.0 - 1.0


def _binomial_half(k: int, n: int) -> float:
    """P(k heads of n)."""
    return math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2.0))
