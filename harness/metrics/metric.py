"""Describe a metric: how to read its number, how it scores predictions, and what each item adds to the score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Direction = Literal["higher", "lower"]
Unit = Literal["character", "word"]
Answer = int | float | str
"""What a task predicts: the number of a class, a number, or a text."""


@dataclass(frozen=True)
class Metric:
    """How to read a number: which direction is better, its unit, and one line of what it is."""

    direction: Direction
    unit: str
    meaning: str

    def better(self, value: float, other: float) -> bool:
        """Whether `value` beats `other`."""
        return value > other if self.direction == "higher" else value < other


@dataclass(frozen=True)
class ItemErrors:
    """A metric as a sum over items: the errors of all items, divided by the sum of their lengths.

    Attributes:
        errors: (reference, prediction) -> errors on this item.
        length: reference -> what the item adds to the divisor.
        unit: what the errors are edits of, for texts that can be aligned with their reference; None for other answers.
    """

    errors: Callable[[Any, Any], float]
    length: Callable[[Any], int]
    unit: Unit | None = None

    def rate(self, reference: Answer, prediction: Answer) -> float:
        """The item's own error rate."""
        return self.errors(reference, prediction) / max(1, self.length(reference))


@dataclass(frozen=True)
class SmallCase:
    """References and predictions that are scored by hand; the contract tests hold every metric to its own."""

    references: tuple[Answer, ...]
    predictions: tuple[Answer, ...]
    value: float
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class ScoredMetric(Metric):
    """A metric of predictions, which a task can name among its own.

    Values are fractions in records (0.25); with the unit `%` a table shows them in percent (25.0).

    Attributes:
        label: the metric's name in headers, on axes and in sentences.
        scorer: (references, predictions, **arguments) -> value, over one whole test set.
        cases: small cases scored by hand.
        arguments: what the scorer must know of the corpus (`num_classes`); the task gives it.
        items: how the metric is a sum over items; None where it is not (the F1 of a class belongs to no item).
        linearised: (references, predictions) -> the influence of each item, for a metric that is no sum over items.
        reduction: what a relative reduction of it is called.
        answers: what it scores: numbers of classes, numbers, or texts.
    """

    label: str
    scorer: Callable[..., float]
    cases: tuple[SmallCase, ...]
    arguments: tuple[str, ...] = ()
    items: ItemErrors | None = None
    linearised: Callable[[Sequence[Any], Sequence[Any]], NDArray[np.float64]] | None = None
    reduction: str = "error reduction"
    answers: Literal["class", "number", "text"] = "class"

    def score(
        self, references: Sequence[Any], predictions: Sequence[Any], known: Mapping[str, Any] | None = None
    ) -> float:
        """The metric of predictions, in the order of their references.

        Args:
            known: what the task knows of the corpus; the metric takes from it what it needs.

        Raises:
            ValueError: there is nothing to score, or the two lists differ in length.
            KeyError: the task does not give an argument that the metric needs.
        """
        if len(references) != len(predictions) or not references:
            raise ValueError(f"{len(references)} references and {len(predictions)} predictions cannot be scored")
        given = {name: (known or {})[name] for name in self.arguments}
        return self.scorer(list(references), list(predictions), **given)

    def influences(self, references: Sequence[Any], predictions: Sequence[Any]) -> NDArray[np.float64] | None:
        """By how much each item moves the score, to first order: what the error over test items is computed from.

        An item that occurred once more would change the score by its influence (the delta method; Hampel 1974). They
        sum to 0 over the test set.

        Returns:
            shape [items], in the metric's unit as a fraction; None where the metric says nothing of its items.
        """
        if self.linearised is not None:
            return self.linearised(references, predictions)
        if self.items is None:
            return None
        errors = np.array([self.items.errors(r, p) for r, p in zip(references, predictions, strict=True)], float)
        lengths = np.array([self.items.length(r) for r in references], float)
        total = float(lengths.sum())
        if total == 0.0:
            return None
        sign = -1.0 if self.direction == "higher" else 1.0  # accuracy rises where errors fall
        return np.asarray(sign * (errors - errors.sum() / total * lengths) / total)


def case(references: Sequence[Answer], predictions: Sequence[Answer], value: float, **arguments: Any) -> SmallCase:
    """A small case: `case([0, 1], [0, 0], 0.5)`."""
    return SmallCase(tuple(references), tuple(predictions), value, arguments)
