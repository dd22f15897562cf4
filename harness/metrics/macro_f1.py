"""Macro F1: the mean of the classes' F1, in which a rare class counts as much as a frequent one."""

from __future__ import annotations

from collections.abc import Sequence

from harness.metrics.metric import ScoredMetric, case


def macro_f1(references: Sequence[int], predictions: Sequence[int], num_classes: int) -> float:
    """Unweighted mean of the classes' F1; a class with no reference and no prediction counts as 0."""
    scores = []
    for label in range(num_classes):
        true = sum(r == p == label for r, p in zip(references, predictions, strict=True))
        support, predicted = references.count(label), predictions.count(label)
        scores.append(2 * true / (support + predicted) if support + predicted else 0.0)
    return sum(scores) / num_classes


MACRO_F1 = ScoredMetric(
    direction="higher",
    unit="%",
    meaning="mean F1 of the classes",
    label="macro F1",
    scorer=macro_f1,
    cases=(
        # class 0: 2 right, 3 references, 2 predictions: 4/5; class 1: 1 right, 1 and 2: 2/3; class 2: 0 right: 0
        case([0, 0, 0, 1, 2], [0, 0, 1, 1, 3], (4 / 5 + 2 / 3 + 0) / 3, num_classes=3),
        case([0, 1], [0, 1], 1.0, num_classes=2),
        case([0, 1], [0, 1], 0.5, num_classes=4),  # two classes that never occur count as 0
    ),
    arguments=("num_classes",),
)
