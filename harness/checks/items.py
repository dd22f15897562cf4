"""Two arms on the same test items: how many changed, and which got better or worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.checks.examples import Changes, find_changes
from harness.config.trial import which_test_set
from harness.records.predictions import Predictions, read_predictions
from harness.records.schema import Record
from harness.records.store import RecordStore
from harness.records.task import normaliser_of, task_of
from harness.tasks.references import ReferenceShelf


@dataclass(frozen=True)
class ItemChanges:
    """A pair of arms on the target's test set.

    Attributes:
        num_changed: items whose outputs differ on at least one shared seed.
        changes: which items got better and worse.
    """

    arms: tuple[str, str]
    domain: str
    seeds: tuple[int, ...]
    num_items: int
    num_changed: int
    changes: Changes


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
    references = shelf.find(data[0], prints[0], task, normaliser_of(records[0]))
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
    return ItemChanges(arms, domain, seeds, len(items), changed, changes)


def _outputs(store: RecordStore, trials: Mapping[int, Record], seeds: tuple[int, ...]) -> dict[int, Predictions] | None:
    found = {}
    for seed in seeds:
        predictions = read_predictions(store.trial(trials[seed].trial_id))
        if predictions is None:
            return None
        found[seed] = predictions
    return found
