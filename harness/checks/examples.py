"""Find the test items that an arm gets right and the baseline does not, and the other way round.

An item's error is averaged over the seeds that both have, so an item that one lucky seed got right does not come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.checks.alignment import Piece, align
from harness.metrics import METRICS, Answer
from harness.records.predictions import Predictions
from harness.tasks.references import References, TestItem

NUM_SHOWN = 4  # of either kind
MIN_CHANGE = 1e-9


@dataclass(frozen=True)
class Output:
    """One arm's answers to an item.

    Attributes:
        error: the item's own error rate, mean over the seeds (0 or 1 a seed for classes).
        answers: for classes: answer -> number of seeds that gave it, most frequent first.
        pieces, first_error: for texts: the first shared seed's answer aligned with the reference, and its error rate.
    """

    error: float
    answers: Mapping[str, int]
    pieces: tuple[Piece, ...] = ()
    first_error: float = 0.0


@dataclass(frozen=True)
class Example:
    """One item, its reference, and what baseline and arm made of it."""

    key: str
    shown: str
    reference: str
    before: Output
    after: Output


@dataclass(frozen=True)
class Changes:
    """How an arm's outcomes differ from the baseline's, on one test set.

    `num_better`, `num_worse` count items whose mean error fell or rose; `better`, `worse` are the clearest of them.
    """

    arm: str
    baseline: str
    seeds: tuple[int, ...]
    num_items: int
    num_better: int
    num_worse: int
    better: tuple[Example, ...]
    worse: tuple[Example, ...]


def find_changes(
    references: References,
    domain: str,
    arm: tuple[str, Mapping[int, Predictions]],
    baseline: tuple[str, Mapping[int, Predictions]],
    num_shown: int = NUM_SHOWN,
) -> Changes | None:
    """Compare an arm with the baseline item by item on the seeds that both have, by the task's metric of items.

    None when they share no seed, or the task has no metric that is a sum over items.

    Args:
        arm, baseline: name, and predictions by seed.
    """
    seeds = tuple(seed for seed in arm[1] if seed in baseline[1])
    items, metric = references.items(domain), references.task.item_metric()
    if metric is None or not seeds or not all(domain in runs[seed] for runs in (arm[1], baseline[1]) for seed in seeds):
        return None
    changed = []
    for item in items:
        outputs = [[runs[seed][domain][item.key] for seed in seeds] for runs in (baseline[1], arm[1])]
        before, after = (fmean(item_error(item, answer, metric) for answer in given) for given in outputs)
        if abs(after - before) > MIN_CHANGE:
            changed.append((after - before, item, outputs, (before, after)))
    changed.sort(key=lambda entry: (-abs(entry[0]), entry[1].key))
    better = [entry for entry in changed if entry[0] < 0]
    worse = [entry for entry in changed if entry[0] > 0]
    shown = [
        tuple(_example(references, item, outputs, errors, metric) for _, item, outputs, errors in kind)
        for kind in (better[:num_shown], worse[:num_shown])
    ]
    return Changes(arm[0], baseline[0], seeds, len(items), len(better), len(worse), *shown)


def item_error(item: TestItem, prediction: Answer, metric: str) -> float:
    """An item's own error rate, by a metric that is a sum over items."""
    counted = METRICS[metric].items
    assert counted is not None, f"{metric} cannot be computed item by item"
    return counted.rate(item.reference, prediction)


def _example(
    references: References,
    item: TestItem,
    outputs: Sequence[Sequence[Answer]],
    errors: tuple[float, float],
    metric: str,
) -> Example:
    both = [_output(references, item, answers, error, metric) for answers, error in zip(outputs, errors, strict=True)]
    return Example(item.key, item.shown, references.answer_text(item.reference), *both)


def _output(references: References, item: TestItem, answers: Sequence[Answer], error: float, metric: str) -> Output:
    counted = METRICS[metric].items
    if counted is not None and counted.unit is not None:
        pieces = align(str(item.reference), str(answers[0]), counted.unit)
        return Output(error, {}, pieces, item_error(item, answers[0], metric))
    named = Counter(references.answer_text(answer) for answer in answers)
    return Output(error, dict(named.most_common()))
