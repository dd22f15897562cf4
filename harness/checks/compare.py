"""Compare two sides metric by metric over seeds, and item by item on the target's test set.

Seeds that both sides have are paired (t-test and interval of the paired differences); without a shared seed the means
are compared as independent samples (Welch). p-values are corrected over everything that is compared (Holm).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from harness.checks.items import ItemChanges, compare_items
from harness.checks.sides import Side, pair_arms
from harness.config.trees import flatten, show
from harness.errors import UserError, must_be_in
from harness.metrics import RECORDED, split_name
from harness.records.schema import Record
from harness.statistics import ALPHA, Interval, compare_by_seed, compare_unpaired, holm
from harness.tasks.references import ReferenceShelf
from harness.tasks.registry import TASKS

DEFAULT = ("target_", "source_", "forgetting", "constrained_score")


@dataclass(frozen=True)
class Group:
    """The values of one metric on one side, in its unit: mean, sample sd (None for one seed), number of seeds."""

    mean: float
    sd: float | None
    count: int


@dataclass(frozen=True)
class Difference:
    """One metric of one pair of arms; the difference is second minus first, in the metric's unit.

    Attributes:
        num_pairs: shared seeds; 0 where the samples are independent.
        p, p_adjusted: of the paired (or Welch's) t-test, and after Holm over the whole comparison.
        verdict: of the second against the first; `unclear` unless p_adjusted is below 5 %.
    """

    arms: tuple[str, str]
    metric: str
    first: Group
    second: Group
    num_pairs: int
    difference: float
    interval: Interval | None
    p: float | None
    p_adjusted: float | None = None
    verdict: str = "unclear"


@dataclass(frozen=True)
class SideBySide:
    """The outcome of a comparison.

    Attributes:
        settings: arms -> what differs between their configs (dotted key, first, second).
        notes: what a reader must know: other data, arms without a partner, failed trials.
    """

    first: str
    second: str
    differences: tuple[Difference, ...]
    items: tuple[ItemChanges, ...]
    settings: Mapping[tuple[str, str], tuple[tuple[str, str, str], ...]]
    notes: tuple[str, ...]


def compare_sides(one: Side, other: Side, metrics: Sequence[str] = ()) -> SideBySide:
    """Compare two sides.

    Args:
        metrics: () takes the test metrics that both have.

    Raises:
        UserError: no arm of one is in the other, or a metric is in neither's records (the choices are named).
    """
    pairs, alone = pair_arms(one, other)
    chosen = choose_metrics(one, other, pairs, metrics)
    shelf = ReferenceShelf()
    notes = [f"{arm} is not compared: the other side has no such arm" for arm in alone]
    differences, items = [], []
    settings = {}
    same_target = True
    for first, second in pairs:
        left, right = one.trials[first], other.trials[second]
        about = differing_data(left, right)
        notes += [note for note in about if note not in notes]
        same_target = same_target and target_of(left) == target_of(right)
        for metric in chosen:
            found = difference_of((first, second), metric, left, right)
            if found is not None:
                differences.append(found)
        changes = compare_items((first, second), (one.store, left), (other.store, right), shelf)
        if isinstance(changes, str):
            notes += [changes] if changes not in notes else []
        else:
            items.append(changes)
        settings[first, second] = differing_settings(left, right)
    for side in (one, other):
        notes += [f"{side.asked}: {arm}: planned trials that are not complete: {n}" for arm, n in side.failed.items()]
    judged = correct(differences)
    if not same_target:
        judged = tuple(replace(found, verdict="unclear") for found in judged)
    return SideBySide(one.asked, other.asked, judged, tuple(items), settings, tuple(notes))


def choose_metrics(one: Side, other: Side, pairs: Sequence[tuple[str, str]], metrics: Sequence[str]) -> tuple[str, ...]:
    """The metrics to compare, in the order of `harness.metrics`."""
    known = [
        metric
        for metric in RECORDED
        if any(_values(one.trials[a], metric) and _values(other.trials[b], metric) for a, b in pairs)
    ]
    if not known:
        raise UserError(f"{one.asked} and {other.asked} have no metric in common")
    for metric in metrics:
        must_be_in(metric, known, f"--metrics: no metric {metric!r} in the records of both")
    if metrics:
        return tuple(metrics)
    return tuple(metric for start in DEFAULT for metric in _primary_first(known) if metric.startswith(start))


def _primary_first(metrics: Sequence[str]) -> list[str]:
    primary = {task.primary for task in TASKS.values()}
    return sorted(metrics, key=lambda metric: split_name(metric)[1] not in primary)


def _values(trials: Mapping[int, Record], metric: str) -> dict[int, float]:
    """A metric by seed, in its unit."""
    scale = 100.0 if RECORDED[metric].unit in ("%", "points") else 1.0
    found = {}
    for seed, record in trials.items():
        value = (record.summary.metrics | record.summary.costs).get(metric)
        if value is not None:
            found[seed] = scale * value
    return found


def difference_of(
    arms: tuple[str, str], metric: str, left: Mapping[int, Record], right: Mapping[int, Record]
) -> Difference | None:
    """One metric's difference; None where a side does not have it."""
    first, second = _values(left, metric), _values(right, metric)
    if not first or not second:
        return None
    groups = _group(first), _group(second)
    shared = [seed for seed in first if seed in second]
    if shared:
        paired = compare_by_seed(second, first)
        difference = fmean(second[seed] - first[seed] for seed in shared)
        return Difference(arms, metric, *groups, len(shared), difference, paired.interval, paired.p_value)
    welch = compare_unpaired(list(second.values()), list(first.values()))
    return Difference(arms, metric, *groups, 0, welch.mean_difference, welch.interval, welch.p_value)


def _group(values: Mapping[int, float]) -> Group:
    numbers = list(values.values())
    return Group(fmean(numbers), stdev(numbers) if len(numbers) > 1 else None, len(numbers))


def correct(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """Apply Holm's correction to the p-values of all differences, and give each difference its verdict."""
    adjusted = holm([found.p for found in differences])
    return tuple(
        replace(found, p_adjusted=p, verdict=_verdict(found, p)) for found, p in zip(differences, adjusted, strict=True)
    )


def _verdict(found: Difference, p: float | None) -> str:
    if p is None or p > ALPHA or found.difference == 0:
        return "unclear"
    better = RECORDED[found.metric].better(found.second.mean, found.first.mean)
    return "better" if better else "worse"


def target_of(trials: Mapping[int, Record]) -> str:
    """The corpus and the domain that an arm was adapted to."""
    data = next(iter(trials.values())).config["data"]
    return f"{data['corpus']}/{data['target']}"


def differing_data(left: Mapping[int, Record], right: Mapping[int, Record]) -> list[str]:
    """Notes where the two sides differ in target, corpus content or base model."""
    one, other = next(iter(left.values())), next(iter(right.values()))
    notes = []
    targets = target_of(left), target_of(right)
    if targets[0] != targets[1]:
        notes.append(f"DIFFERENT TARGETS: {targets[0]} and {targets[1]}, so the numbers do not measure the same thing")
    if one.provenance is None or other.provenance is None:
        return notes
    for what in ("corpus", "backbone"):
        prints = [getattr(record.provenance, f"{what}_fingerprint")[:12] for record in (one, other)]
        if prints[0] != prints[1]:
            notes.append(f"DIFFERENT {what.upper()}: content fingerprints {prints[0]} and {prints[1]}")
    return notes


def differing_settings(left: Mapping[int, Record], right: Mapping[int, Record]) -> tuple[tuple[str, str, str], ...]:
    """Dotted settings that are not the same on both sides, the seed aside."""
    one, other = (flatten(next(iter(trials.values())).config) for trials in (left, right))
    keys = [key for key in dict.fromkeys([*one, *other]) if key != "seed" and one.get(key) != other.get(key)]
    return tuple((key, show(one.get(key)), show(other.get(key))) for key in keys)
