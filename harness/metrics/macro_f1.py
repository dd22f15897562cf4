"""Macro F1: the mean of the classes' F1, in which a rare class counts as much as a frequent one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.metrics.metric import ScoredMetric, case


def macro_f1(references: Sequence[int], predictions: Sequence[int], num_classes: int) -> float:
    """Unweighted mean F1 of the classes that occur among references or predictions, as scikit-learn has it.

    A class without a reference and without a prediction has no F1: counted as 0, it would cap what a faultless model
    can reach on a domain that lacks it.

    Raises:
        ValueError: an index is none of the `num_classes` classes.
    """
    if strange := {*references, *predictions} - set(range(num_classes)):
        raise ValueError(f"class {min(strange)}: expected 0 to {num_classes - 1}")
    true = Counter(r for r, p in zip(references, predictions, strict=True) if r == p)
    occurs = Counter(references) + Counter(predictions)  # of a class: its references, and its predictions
    return sum(2 * true[label] / occurs[label] for label in sorted(occurs)) / len(occurs)


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
    meaning="mean F1 of the classes that occur",
    label="macro F1",
    scorer=macro_f1,
    cases=(
        # class 0: 2 right, 3 references, 2 predictions: 4/5; class 1: 1 right, 1 and 2: 2/3; class 2: 0 right: 0;
        # class 3: predicted once, never right: 0
        case([0, 0, 0, 1, 2], [0, 0, 1, 1, 3], (4 / 5 + 2 / 3 + 0 + 0) / 4, num_classes=4),
        case([0, 1], [0, 1], 1.0, num_classes=2),
        case([0, 2, 0, 2], [0, 2, 0, 2], 1.0, num_classes=4),  # two classes that never occur
        case([0, 2, 0, 0, 2, 2], [0, 0, 0, 2, 2, 2], (2 / 3 + 2 / 3) / 2, num_classes=3),
        case([0, 0], [0, 1], (2 / 3 + 0) / 2, num_classes=3),  # no reference of class 1, but a prediction
    ),
    arguments=("num_classes",),
    linearised=macro_f1_influences,
)
