"""Compare two systems by their outputs on the same test items, from files that anybody may have written.

One file is one training of each system, so the error is that of the test items alone: what is found holds for these two
trained systems on new items of the same kind, and says nothing of other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.checks.output_files import OutputItem, SystemOutputs, read_outputs
from harness.errors import UserError, must_be_in
from harness.metrics import METRICS, Answer
from harness.statistics import ALPHA, Influence, Interval, PairedSample, compare_alone, holm
from harness.statistics.samples import Floats

MAX_CLASSES = 50  # different references from which they are taken for texts
TEXT_METRICS, CLASS_METRICS = ("wer", "cer"), ("accuracy", "macro_f1")
HIGHER = ("acc", "exact_match", "f1", "em", "bleu", "rouge", "chrf", "mcc", "likelihood_diff", "pct_")


@dataclass(frozen=True)
class OutputDifference:
    """One metric of two systems, in percent or, where it is no share, in its own unit; second - first."""

    metric: str
    first: float
    second: float
    difference: float
    interval: Interval | None
    p: float | None
    p_adjusted: float | None = None
    verdict: Literal["better", "worse", "higher", "lower", "unclear"] = "unclear"


@dataclass(frozen=True)
class OutputComparison:
    """Two files of outputs, compared.

    Attributes:
        num_items, num_blocks: the items that both have, and the independent groups that they form.
        num_changed: items with another output; None where the files hold scores only.
        notes: what a reader must know.
    """

    first: str
    second: str
    differences: tuple[OutputDifference, ...]
    num_items: int
    num_blocks: int
    num_changed: int | None
    notes: tuple[str, ...]


def compare_outputs(first: Path, second: Path, metrics: Sequence[str] = ()) -> OutputComparison:
    """Compare two files of outputs, paired over the items that both have.

    Args:
        metrics: () takes WER and CER of texts, accuracy and macro F1 of classes, or the files' own scores.

    Raises:
        UserError: a file is not readable, the two share no item, or an item has two references.
    """
    one, other = read_outputs(first), read_outputs(second)
    pairs, notes = _paired(one, other)
    items = [(one.items[a], other.items[b]) for a, b in pairs]
    if bool(one.scores) != bool(other.scores):
        raise UserError(f"{first} and {second}: only one of them holds the scores of lm-evaluation-harness")
    groups = [item.group for item, _ in items]
    changed: int | None = None
    if one.scores:
        chosen = _own_metrics(one, other, metrics)
        found = [_own(name, one, other, pairs, groups) for name in chosen]
    else:
        chosen, why = _chosen(items, metrics)
        notes += why
        found = [_scored(name, items, groups) for name in chosen]
        changed = sum(item.hypothesis != after.hypothesis for item, after in items)
    adjusted = holm([difference.p for difference in found])
    judged = tuple(_judged(difference, p) for difference, p in zip(found, adjusted, strict=True))
    notes += [*one.notes, *other.notes]
    return OutputComparison(str(first), str(second), judged, len(items), len(set(groups)), changed, tuple(notes))


def _paired(one: SystemOutputs, other: SystemOutputs) -> tuple[list[tuple[str, str]], list[str]]:
    """The keys of the items that both have, and what is to be said of the others."""
    pairs, notes = [(key, key) for key in one.items if key in other.items], []
    if not pairs:
        names = [{Path(key).name: key for key in side.items} for side in (one, other)]
        if all(len(by_name) == len(side.items) for by_name, side in zip(names, (one, other), strict=True)):
            pairs = [(key, names[1][name]) for name, key in names[0].items() if name in names[1]]
        if not pairs:
            keys = [next(iter(side.items)) for side in (one, other)]
            raise UserError(
                f"{one.path} and {other.path} share no item: keys are like {keys[0]!r} and {keys[1]!r}; "
                "give both files the same keys"
            )
        notes.append("items are matched by their file names, as the folders differ")
    for side, taken in ((one, {a for a, _ in pairs}), (other, {b for _, b in pairs})):
        alone = [key for key in side.items if key not in taken]
        if alone:
            some = ", ".join(alone[:3]) + (" ..." if len(alone) > 3 else "")
            notes.append(f"{len(alone)} of {len(side.items)} items are in {side.path} alone and not compared: {some}")
    for a, b in pairs:
        left, right = one.items[a].reference, other.items[b].reference
        if left != right:
            raise UserError(
                f"{one.path} and {other.path}: item {a!r} has the reference {left!r} in one and {right!r} in the "
                "other; only systems on the same test set can be compared"
            )
    return pairs, notes


def _chosen(items: Sequence[tuple[OutputItem, OutputItem]], metrics: Sequence[str]) -> tuple[Sequence[str], list[str]]:
    for metric in metrics:
        must_be_in(metric, METRICS, f"--metrics: no metric {metric!r}")
    if metrics:
        return metrics, []
    classes = {item.reference for item, _ in items}
    answers = [answer.hypothesis in classes for pair in items for answer in pair]
    # Nearly all answers are references of other items: so are classes, and no system writes transcripts like that.
    if len(classes) <= MAX_CLASSES and 2 * len(classes) <= max(4, len(items)) and np.mean(answers) >= 0.9:
        return CLASS_METRICS, [f"the references are taken for {len(classes)} classes; for texts: --metrics wer,cer"]
    note = "the references are taken for texts, compared as they are written (case and punctuation count)"
    return TEXT_METRICS, [f"{note}; for classes: --metrics accuracy,macro_f1"]


def _scored(metric: str, items: Sequence[tuple[OutputItem, OutputItem]], groups: Sequence[str]) -> OutputDifference:
    references: Sequence[Answer] = [item.reference for item, _ in items]
    both: list[list[Any]] = [[str(pair[side].hypothesis) for pair in items] for side in (0, 1)]
    known = {}
    if METRICS[metric].answers == "number":
        references, both = _numbers(metric, references), [_numbers(metric, side) for side in both]
    elif METRICS[metric].answers == "class":  # classes are numbers to their metrics
        names = sorted({*references, *both[0], *both[1]})
        numbers = {name: number for number, name in enumerate(names)}
        references, both = [numbers[name] for name in references], [[numbers[name] for name in side] for side in both]
        known["num_classes"] = len(names)
    scale = 100.0 if METRICS[metric].unit == "%" else 1.0
    values, influences = [], []
    for answers in both:
        found = METRICS[metric].influences(references, answers)
        if found is None:
            raise UserError(f"--metrics: {metric} needs references that are not all empty")
        values.append(scale * METRICS[metric].score(references, answers, known))
        influences.append(scale * found)
    return _difference(metric, values[0], values[1], influences[1] - influences[0], groups)


def _numbers(metric: str, answers: Sequence[Answer]) -> list[float]:
    """Answers as the numbers that they must be for a metric.

    Raises:
        UserError: one is none.
    """
    found = []
    for answer in answers:
        try:
            found.append(float(answer))
        except ValueError:
            raise UserError(f"--metrics: {metric} compares numbers, and {str(answer)[:40]!r} is none") from None
        if not math.isfinite(found[-1]):
            raise UserError(f"--metrics: {metric} compares numbers, and {answer!r} is not finite")
    return found


def _own_metrics(one: SystemOutputs, other: SystemOutputs, metrics: Sequence[str]) -> Sequence[str]:
    shared = [name for name in one.scores if name in other.scores]
    if not shared:
        raise UserError(
            f"{one.path} and {other.path} share no score: {', '.join(one.scores)}; {', '.join(other.scores)}"
        )
    for metric in metrics:
        must_be_in(metric, shared, f"--metrics: no score {metric!r} in both files")
    return metrics or shared


def _own(
    metric: str, one: SystemOutputs, other: SystemOutputs, pairs: Sequence[tuple[str, str]], groups: Sequence[str]
) -> OutputDifference:
    values = np.array([[one.scores[metric][a], other.scores[metric][b]] for a, b in pairs]).T
    if values.min() >= 0.0 and values.max() <= 1.0:
        values = 100.0 * values
    means = values.mean(axis=1)
    influence = (values - means[:, None]) / len(pairs)
    return _difference(metric, float(means[0]), float(means[1]), influence[1] - influence[0], groups)


def _difference(metric: str, first: float, second: float, influence: Floats, groups: Sequence[str]) -> OutputDifference:
    blocks = Influence.of_items(influence, groups)
    sample = PairedSample.over_items(np.array([second - first]), [blocks], deterministic=True)
    found = compare_alone(sample)
    return OutputDifference(metric, first, second, second - first, found.interval(), found.p_value)


def _judged(found: OutputDifference, p: float | None) -> OutputDifference:
    if p is None or p > ALPHA:
        return replace(found, p_adjusted=p)
    known = METRICS.get(found.metric)
    rises = found.difference > 0
    if known is not None:
        verdict: Literal["better", "worse", "higher", "lower"] = (
            "better" if rises == (known.direction == "higher") else "worse"
        )
    elif found.metric.startswith(HIGHER):
        verdict = "better" if rises else "worse"
    else:
        verdict = "higher" if rises else "lower"
    return replace(found, p_adjusted=p, verdict=verdict)
