"""Test differences of scores over seeds and test items, all of a table together; and the intervals of single cells.

Comparisons that are one test count once: against a frozen baseline, forgetting and the source score that it is made
from differ in sign alone.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from harness.statistics.distributions import hedges_correction
from harness.statistics.multiplicity import holm_distinct
from harness.statistics.samples import Floats, Interval
from harness.statistics.shared_variance import PairedSample, SharedComparison, compare_all
from harness.tables.cells import ResolvedMetric
from harness.tables.model import Comparison
from harness.tables.seed_scores import ROUNDING, SeedScores

Verdict = Literal["better", "worse", "unclear"]
KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass(frozen=True)
class Difference:
    """A difference that is tested.

    Attributes:
        arm, column: where it stands: the differences of an arm have similar variances, those of a column one unit.
        place: where else (a target, an experiment): in one place, an arm's scores that are multiples of each other are
            one test.
        baseline: what is subtracted, in words.
        reduction: the share of the baseline's error that is removed; None where the metric has no errors.
    """

    arm: str
    column: Hashable
    metric: ResolvedMetric
    scores: SeedScores
    baseline: str
    place: Hashable = ()
    reduction: SeedScores | None = None


@dataclass(frozen=True)
class _Test:
    """A distinct test, and the difference that it is made for first."""

    label: Hashable
    key: tuple[Hashable, Hashable]
    sample: PairedSample
    factor: float


def compare_differences(
    differences: Mapping[KeyT, Difference], *, level: float, alpha: float
) -> tuple[dict[KeyT, Comparison], int]:
    """Compare all differences of a table with 0, corrected by Holm over the distinct tests.

    Returns:
        the comparisons by the keys given, and the number of distinct tests.
    """
    tests, of_key = _distinct(differences)
    found = compare_all({test.key: test.sample for test in tests.values()})
    p_values = [found[test.key].p_value for test, _ in of_key.values()]
    adjusted, num_tests = holm_distinct(p_values, [test.label for test, _ in of_key.values()])
    corrected = dict(zip(of_key, adjusted, strict=True))
    comparisons = {}
    for key, difference in differences.items():
        if key not in of_key:
            comparisons[key] = _untested(difference)
            continue
        test, factor = of_key[key]
        shared = _scaled(found[test.key], factor)
        made = _comparison(difference, shared, level, alpha / max(1, num_tests))
        comparisons[key] = _judged(made, corrected[key], difference.metric, alpha)
    reductions = {key: (d.arm, d.column, d.reduction) for key, d in differences.items() if d.reduction is not None}
    for key, interval in intervals_of(reductions, level).items():
        removed = reductions[key][2].mean
        comparisons[key] = replace(comparisons[key], relative=removed, relative_interval=interval)
    return comparisons, num_tests


def labels_of(differences: Mapping[KeyT, Difference]) -> dict[KeyT, Hashable]:
    """Which test each difference is, by the keys given; differences of one label are one test, and count once."""
    return {key: test.label for key, (test, _) in _distinct(differences)[1].items()}


def _distinct(
    differences: Mapping[KeyT, Difference],
) -> tuple[dict[Hashable, _Test], dict[KeyT, tuple[_Test, float]]]:
    """The distinct tests by label; and of each difference that is tested, its test and how many times that it is."""
    tests: dict[Hashable, _Test] = {}
    of_key: dict[KeyT, tuple[_Test, float]] = {}
    for key, difference in differences.items():
        if difference.metric.tested and difference.scores.values:
            test, factor = _test_of(difference, tests)
            tests.setdefault(test.label, test)
            of_key[key] = test, factor
    return tests, of_key


def _test_of(difference: Difference, tests: Mapping[Hashable, _Test]) -> tuple[_Test, float]:
    """The test that a difference is: an earlier one of which it is a multiple, or one of its own; and the factor."""
    sample, scores = difference.scores.sample, difference.scores
    own = _Test((difference.arm, difference.column), (difference.arm, difference.column), sample, scores.factor)
    if scores.what is None:
        return own, 1.0
    own = replace(own, label=(difference.arm, difference.place, scores.what))
    known = tests.get(own.label)
    if known is None:
        return own, 1.0
    factor = scores.factor / known.factor
    expected = factor * known.sample.differences
    if expected.shape == sample.differences.shape and np.allclose(
        expected, sample.differences, rtol=0.0, atol=2.0 * ROUNDING * scores.scale
    ):
        return known, factor
    return replace(own, label=own.key), 1.0  # forgetting of two base models: the difference is another one


def _scaled(shared: SharedComparison, factor: float) -> SharedComparison:
    if factor == 1.0:
        return shared
    size = abs(factor)
    error = None if shared.seed_error is None else size * shared.seed_error
    return replace(
        shared,
        mean=factor * shared.mean,
        errors=size * shared.errors,
        seed_error=error,
        item_error=size * shared.item_error,
    )


def _untested(difference: Difference) -> Comparison:
    values = list(difference.scores.values.values())
    if not values:
        return Comparison(difference.baseline, 0, None, why="no_pair")
    return Comparison(difference.baseline, len(values), sum(values) / len(values), why="not_tested")


def _comparison(difference: Difference, shared: SharedComparison, level: float, first_alpha: float) -> Comparison:
    tested = shared.status in ("tested", "deterministic")
    sd = None if shared.seed_error is None else shared.seed_error * math.sqrt(shared.count)
    effect = shared.mean / sd * hedges_correction(shared.count - 1) if sd and tested and shared.count > 2 else None
    return Comparison(
        baseline=difference.baseline,
        num_pairs=shared.count,
        difference=shared.mean,
        interval=shared.interval(level),
        p=shared.p_value,
        effect_size=effect,
        sd=sd,
        detectable=shared.detectable(first_alpha),
        seed_error=shared.seed_error,
        item_error=None if difference.scores.influences is None else shared.item_error,
        error=_median(shared.errors, shared.weights) if tested else None,
        why=None if tested else shared.status,
    )


def _median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), 0.5)])


def _judged(comparison: Comparison, adjusted: float | None, metric: ResolvedMetric, alpha: float) -> Comparison:
    """The comparison with its adjusted p-value and its verdict."""
    verdict: Verdict = "unclear"
    if adjusted is not None and adjusted <= alpha and comparison.difference:
        verdict = "better" if (comparison.difference > 0) == (metric.metric.direction == "higher") else "worse"
    return replace(comparison, p_adjusted=adjusted, verdict=verdict)


def intervals_of(scores: Mapping[KeyT, tuple[str, Hashable, SeedScores]], level: float) -> dict[KeyT, Interval | None]:
    """The intervals of single cells: for other seeds and, where all that items add is known, for other items.

    Args:
        scores: any key -> arm, column, scores. What is cut off at 0 must not be among them: its spread is no variance
            that others could share.
    """
    samples = {}
    for key, (arm, column, own) in scores.items():
        if own.values:
            samples[key] = (arm, column), (own if own.whole else replace(own, influences=None, step=0.0)).sample
    found = compare_all(dict(samples.values()))
    intervals: dict[KeyT, Interval | None] = dict.fromkeys(scores)
    for key, (place, _) in samples.items():
        shared = found[place]
        if shared.status != "constant" or shared.count > 1:  # one value that no seed changes needs no interval
            intervals[key] = shared.interval(level)
    return intervals
