"""Macro F1: the mean of the classes' F1, in which a rare class counts as much as a frequent one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.metrics.metric import ScoredMetric, case


def macro_f1(references: Sequence[int], predictions: Sequence[int], num_classes: int) -> float:
    """Unweighted mean of the classes' F1; a class with no reference and no prediction counts as 0."""
    scores = []
    for label in range(num_classes):
        true = sum(r == p == label for r, p in zip(references, predictions, strict=True))
        support, predicted = references.count(label), predictions.count(label)
        scores.append(2 * true / (support + predicted) if support + predicted else 0.0)
    return sum(scores) / num_classes


def macro_f1_influences(references: Sequence[int], predictions: Sequence[int]) -> NDArray[np.float64]:
    """By how much each item moves the macro F1: the gradient of the mean F1 in the item's counts; shape [items].

    F1 of a class is 2 TP / D with D = references + predictions of the class, so an item that adds t to TP and d to D
    adds (2 t D - 2 TP d) / D^2.
    """
    truth, answer = np.asarray(references), np.asarray(predictions)
    classes = np.union1d(truth, answer)
    total = np.zeros(len(truth))
    for label in classes:
        is_reference, is_answer = truth == label, answer == label
        true = is_reference & is_answer
        size = float(is_reference.sum() + is_answer.sum())
        added = is_reference.astype(float) + is_answer
        total += (2.0 * true * size - 2.0 * float(true.sum()) * added) / size**2
    return total / len(classes)


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
    linearised=macro_f1_influences,
)
