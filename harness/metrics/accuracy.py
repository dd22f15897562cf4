"""Accuracy: the share of answers that are right."""

from __future__ import annotations

from collections.abc import Sequence

from harness.metrics.metric import ItemErrors, ScoredMetric, case


def accuracy(references: Sequence[int | str], predictions: Sequence[int | str]) -> float:
    """Share of predictions that equal their reference."""
    return sum(r == p for r, p in zip(references, predictions, strict=True)) / len(references)


ACCURACY = ScoredMetric(
    direction="higher",
    unit="%",
    meaning="share of examples with the right class",
    label="accuracy",
    scorer=accuracy,
    cases=(case([0, 1, 2, 1], [0, 1, 1, 1], 0.75), case([0], [1], 0.0)),
    items=ItemErrors(errors=lambda reference, answer: float(answer != reference), length=lambda reference: 1),
)
