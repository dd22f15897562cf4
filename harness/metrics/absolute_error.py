"""The mean absolute error of predicted numbers, in their own unit."""

from __future__ import annotations

from collections.abc import Sequence

from harness.metrics.metric import ItemErrors, ScoredMetric, case


def mean_absolute_error(references: Sequence[float], predictions: Sequence[float]) -> float:
    """The mean distance of predictions from their references."""
    return sum(abs(r - p) for r, p in zip(references, predictions, strict=True)) / len(references)


MAE = ScoredMetric(
    direction="lower",
    unit="",
    meaning="mean absolute error, in the unit of the numbers",
    label="MAE",
    scorer=mean_absolute_error,
    cases=(case([1, 2, 4], [1, 3, 2], 1.0), case([0.5], [-0.25], 0.75), case([2.0], [2.0], 0.0)),
    items=ItemErrors(errors=lambda reference, answer: abs(answer - reference), length=lambda reference: 1),
    answers="number",
)
