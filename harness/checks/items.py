"""Two arms on the same test items: how many changed, and the difference with an interval over seeds and items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.checks.examples import Changes, find_changes
from harness.config.trial import which_test_set
from harness.metrics import METRICS
from harness.records.predictions import Predictions, read_predictions
from harness.records.schema import Record
from harness.records.store import RecordStore
from harness.records.task import task_of
from harness.seeding import rng
from harness.statistics import Interval, compare_error_rates, two_level
from harness.tasks.references import References, ReferenceShelf


@dataclass(frozen=True)
class ItemDifference:
    """A metric over the items: second minus first, in percent, for new seeds and new items of the same kind."""

    metric: str
    difference: float
    interval: Interval | None
    p: float | None


@dataclass(frozen=True)
class ItemChanges:
    """A pair of arms on the target's test set.

    Attributes:
        num_changed: items whose outputs differ on at least one shared seed.
        changes: which items got better and worse.
        differences: one a metric that is a sum over items.
    """

    arms: tuple[str, str]
    domain: str
    seeds: tuple[int, ...]
    num_items: int
    num_changed: int
    changes: Changes
    differences: tuple[ItemDifference, ...]


def compare_items(
    arms: tuple[str, str],
    first: tuple[RecordStore, Mapping[int, Record]],
    second: tuple[RecordStore, Mapping[int, Record]],
    shelf: ReferenceShelf,
) -> ItemChanges | str:
    """Compare two arms item by item. Where that is impossible, return the reason as a sentence.

    Raises:
        UserError: a file of predictions is corrupt.
    """
    records = [next(iter(trials.values())) for _, trials in (first, second)]
    data = [record.config["data"] for record in records]
    prints = [record.provenance.corpus_fingerprint if record.provenance else None for record in records]
    if which_test_set(data[0]) != which_test_set(data[1]) or prints[0] != prints[1]:
        return "test items are not compared: the two sides have different test sets"
    seeds = tuple(seed for seed in first[1] if seed in second[1])
    if not seeds:
        return "test items are not compared: the two sides share no seed"
    task = task_of(records[0])
    if task is None or task is not task_of(records[1]):
        return "test items are not compared: the records belong to different tasks"
    if task.item_metric() is None:
        return "test items are not compared: no metric of this task can be computed item by item"
    references = shelf.find(data[0], prints[0], task)
    if isinstance(references, str):
        return f"test items are not compared: {references}"
    outputs = [_outputs(store, trials, seeds) for store, trials in (first, second)]
    domain = str(data[0]["target"])
    if any(outputs[side] is None for side in (0, 1)):
        return "test items are not compared: a record has no predictions"
    before, after = (found for found in outputs if found is not None)
    changes = find_changes(references, domain, (arms[1], after), (arms[0], before))
    if changes is None:
        return f"test items are not compared: there are no predictions on {domain}"
    items = references.items(domain)
    changed = sum(any(before[s][domain][i.key] != after[s][domain][i.key] for s in seeds) for i in items)
    metrics = [name for name in task.metrics if METRICS[name].items is not None]
    differences = tuple(_difference(metric, references, domain, before, after, seeds) for metric in metrics)
    return ItemChanges(arms, domain, seeds, len(items), changed, changes, differences)


def _outputs(store: RecordStore, trials: Mapping[int, Record], seeds: tuple[int, ...]) -> dict[int, Predictions] | None:
    found = {}
    for seed in seeds:
        predictions = read_predictions(store.trial(trials[seed].trial_id))
        if predictions is None:
            return None
        found[seed] = predictions
    return found


def _difference(
    metric: str,
    references: References,
    domain: str,
    before: Mapping[int, Predictions],
    after: Mapping[int, Predictions],
    seeds: tuple[int, ...],
) -> ItemDifference:
    """The difference with the error of seeds and of items; of items alone where only one seed is shared."""
    items, counted = references.items(domain), METRICS[metric].items
    assert counted is not None
    errors = [
        np.array(
            [[counted.errors(item.reference, runs[seed][domain][item.key]) for item in items] for seed in seeds], float
        )
        for runs in (before, after)
    ]
    lengths = np.array([counted.length(item.reference) for item in items], float)
    blocks = [item.group for item in items]
    sign = -100.0 if METRICS[metric].direction == "higher" else 100.0  # accuracy rises where errors fall
    if len(seeds) > 1:
        both = two_level(errors[1] - errors[0], rng(0, "compare", metric), lengths, blocks)
        return ItemDifference(metric, sign * both.value, _scaled(both.interval, sign), both.p_value)
    one = compare_error_rates(errors[1][0], errors[0][0], lengths, rng(0, "compare", metric), blocks)
    return ItemDifference(metric, sign * one.difference, _scaled(one.interval, sign), one.p_value)


def _scaled(interval: Interval | None, sign: float) -> Interval | None:
    if interval is None:
        return None
    low, high = sorted((sign * interval.low, sign * interval.high))
    return Interval(low, high, interval.level, interval.method)
