"""Name metrics and axes on a figure: `valid_target/cer` -> `target CER (%) ↓`, fractions as percent."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from harness.figures.style import words_of
from harness.metrics import RECORDED, metric_words, split_name
from harness.records.search import Axis, Objective, Value


@dataclass(frozen=True)
class MetricLabel:
    """How an objective is shown.

    Attributes:
        name: in words, without `valid_`.
        unit: `%`, `points`, ...; empty for a loss.
        scale: what the stored number is multiplied by.
        arrow: `↑` where higher is better.
    """

    name: str
    unit: str
    scale: float
    arrow: str

    @property
    def full(self) -> str:
        """Name, unit and direction: for an axis or a colour bar."""
        return f"{self.name} ({self.unit}) {self.arrow}" if self.unit else f"{self.name} {self.arrow}"

    def number(self, value: float) -> str:
        """A stored value as text, with its unit: `24.1 %`."""
        if self.scale == 1:
            return f"{value:.4g} {self.unit}".rstrip()
        return f"{value * self.scale:.1f} {self.unit}"


def metric_label(objective: Objective) -> MetricLabel:
    """The label of an objective; a metric that `harness.metrics` does not know is shown as it is, without a unit."""
    key = objective.metric.removeprefix("valid_")
    known = RECORDED.get(split_name(key)[1])
    unit = known.unit if known else ""
    arrow = "↑" if objective.direction == "maximize" else "↓"
    return MetricLabel(metric_words(key), unit, 100.0 if unit in ("%", "points") else 1.0, arrow)


def axis_labels(axes: Iterable[Axis]) -> dict[str, str]:
    """`short_labels` of the axes' keys."""
    return short_labels(dict.fromkeys(axis.key for axis in axes))


def short_labels(keys: Collection[str]) -> dict[str, str]:
    """A label in words for each dotted key: its last part, or the whole key where two keys share that part.

    `adapter_strategy._target_`, the name of a class, is labelled `strategy`.
    """
    last = {key: re.sub(r"(?:adapter_)?(\w+)\._target_$", r"\1", key).rsplit(".", 1)[-1] for key in keys}
    counts = Counter(last.values())
    return {key: words_of(name) if counts[name] == 1 else key for key, name in last.items()}


def value_text(value: Value) -> str:
    """A setting as text: numbers to three significant digits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:.3g}"
