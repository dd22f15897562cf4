"""Correct p-values for many tests with Holm's step-down method."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm-adjusted p-values of one family, in the order given; None (no test was possible) stays None.

    An adjusted p-value at or below alpha is significant with the chance of one or more false positives in the family at
    most alpha, whatever the dependence between the tests. The family is the tests that exist: None does not count.

    Raises:
        ValueError: a p-value outside [0, 1].

    Source: Holm (1979), Scandinavian Journal of Statistics 6, 65-70; adjusted p-values: Wright (1992).
    """
    tested = [(p, index) for index, p in enumerate(p_values) if p is not None]
    for p, _ in tested:
        if not (math.isfinite(p) and 0.0 <= p <= 1.0):
            raise ValueError(f"p-value {p!r} must lie in [0, 1]")
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(sorted(tested)):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[index] = largest
    return adjusted


def holm_distinct(p_values: Sequence[float | None], tests: Sequence[Hashable]) -> tuple[list[float | None], int]:
    """Holm over distinct tests: comparisons with the same label in `tests` are one test, which counts once.

    Forgetting and the source score that it is made from are such a pair: their differences are the same numbers with
    another sign, so one test answers for both.

    Returns:
        the adjusted p-values in the order given, and the number of distinct tests.

    Raises:
        ValueError: not one label a p-value, or comparisons that are called one test have different p-values.
    """
    if len(p_values) != len(tests):
        raise ValueError(f"{len(p_values)} p-values, but {len(tests)} labels of tests")
    distinct: dict[Hashable, float] = {}
    for test, p in zip(tests, p_values, strict=True):
        if p is not None and not math.isclose(distinct.setdefault(test, p), p, rel_tol=1e-6):
            raise ValueError(f"test {test!r} has two p-values, {distinct[test]!r} and {p!r}")
    adjusted = dict(zip(distinct, holm(list(distinct.values())), strict=True))
    return [None if p is None else adjusted[test] for test, p in zip(tests, p_values, strict=True)], len(distinct)
