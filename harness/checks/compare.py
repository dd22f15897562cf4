"""Compare two sides metric by metric over seeds and test items, and item by item on the target's test set.

Seeds that both sides have are paired, as in a table; without a shared seed the means are compared as independent
samples (Welch's t-test over seeds). p-values are corrected over all distinct tests (Holm).
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
from harness.records.schema import Record, check_config
from harness.statistics import ALPHA, LEVEL, Interval, UnpairedComparison, compare_unpaired, holm_distinct
from harness.tables.cells import ResolvedMetric
from harness.tables.comparisons import Difference as TestedDifference
from harness.tables.comparisons import compare_differences, labels_of
from harness.tables.seed_scores import ItemReader, SeedScores, weighted_sum
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
        num_pairs: shared seeds (1 where no seed changes either side); 0 where the samples are independent.
        seed_error, item_error: the standard errors that seeds and test items contribute; None where it is not known.
        p, p_adjusted: of the test, and after Holm over the distinct tests of the whole comparison.
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
    seed_error: float | None = None
    item_error: float | None = None
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
    for side, arm in [(side, arm) for pair in pairs for side, arm in zip((one, other), pair, strict=True)]:
        for record in side.trials[arm].values():
            check_config(record, f"{side.asked}: record {record.trial_id}: config.json")
    chosen = choose_metrics(one, other, pairs, metrics)
    shelf = ReferenceShelf()
    notes = [f"{arm} is not compared: the other side has no such arm" for arm in alone]
    items, settings = [], {}
    same_target = True
    for first, second in pairs:
        left, right = one.trials[first], other.trials[second]
        about = differing_data(left, right)
        notes += [note for note in about if note not in notes]
        same_target = same_target and target_of(left) == target_of(right)
        changes = compare_items((first, second), (one.store, left), (other.store, right), shelf)
        if isinstance(changes, str):
            notes += [changes] if changes not in notes else []
        else:
            items.append(changes)
        settings[first, second] = differing_settings(left, right)
    for side in (one, other):
        notes += [f"{side.asked}: {arm}: planned trials that are not complete: {n}" for arm, n in side.failed.items()]
    judged = compare_metrics(one, other, pairs, chosen)
    if not same_target:
        judged = tuple(replace(found, verdict="unclear") for found in judged)
    return SideBySide(one.asked, other.asked, judged, tuple(items), settings, tuple(notes))


def choose_metrics(one: Side, other: Side, pairs: Sequence[tuple[str, str]], metrics: Sequence[str]) -> tuple[str, ...]:
    """The metrics to compare, in the order of `harness.metrics`."""
    known = [
        metric
        for metric in RECORDED
        if any(_has(one.trials[a], metric) and _has(other.trials[b], metric) for a, b in pairs)
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


def _has(trials: Mapping[int, Record], metric: str) -> bool:
    return any(metric in record.summary.metrics | record.summary.costs for record in trials.values())


def compare_metrics(
    one: Side, other: Side, pairs: Sequence[tuple[str, str]], metrics: Sequence[str]
) -> tuple[Difference, ...]:
    """Every metric of every pair of arms that both sides have, tested together as a table tests its cells."""
    reader = ItemReader()
    paired: dict[tuple[tuple[str, str], str], TestedDifference] = {}
    groups: dict[tuple[tuple[str, str], str], tuple[Group, Group]] = {}
    alone: dict[tuple[tuple[str, str], str], UnpairedComparison] = {}
    for arms in pairs:
        left, right = one.loaded(arms[0]), other.loaded(arms[1])
        for name in metrics:
            metric = ResolvedMetric(name, name, RECORDED[name])
            before, after = reader.scores(left, metric), reader.scores(right, metric)
            if not before.values or not after.values:
                continue
            groups[arms, name] = _group(before), _group(after)
            difference = weighted_sum([(1.0, after), (-1.0, before)])
            if difference.values:
                paired[arms, name] = TestedDifference(" -> ".join(arms), name, metric, difference, arms[0])
            else:
                alone[arms, name] = compare_unpaired(list(after.values.values()), list(before.values.values()))
    tested, _ = compare_differences(paired, level=LEVEL, alpha=ALPHA)
    found = []
    for key, both in groups.items():
        if key in tested:
            made = tested[key]
            assert made.difference is not None  # there is a pair
            errors = made.seed_error, made.item_error
            found.append(Difference(*key, *both, made.num_pairs, made.difference, made.interval, made.p, *errors))
        else:
            welch = alone[key]
            found.append(Difference(*key, *both, 0, welch.mean_difference, welch.interval, welch.p_value))
    labels = labels_of(paired)  # forgetting and the source score that it is made from are one test
    own = [("paired", labels[key]) if key in labels else ("alone", key) for key in groups]
    adjusted, _ = holm_distinct([each.p for each in found], own)
    return tuple(
        replace(each, p_adjusted=p, verdict=_verdict(each, p)) for each, p in zip(found, adjusted, strict=True)
    )


def _group(scores: SeedScores) -> Group:
    numbers = list(scores.values.values())
    if scores.deterministic:
        return Group(numbers[0], None, 1)
    return Group(fmean(numbers), stdev(numbers) if len(numbers) > 1 else None, len(numbers))


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
