"""Place a setting's value on a plot: linear, logarithmic, logarithmic with a zero of its own, or categorical.

Everything is drawn in coordinates of our own (log10 of the value on a logarithmic axis, the choice's index on a
categorical one), with the ticks put where they belong. A zero has no logarithm: it stands in a strip of its own left of
(below) the axis, with a mark where the axis is broken.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform, blended_transform_factory

from harness.figures.labels import value_text
from harness.figures.style import FAINT, INK
from harness.records.search import Axis, SearchPoint, Value

ZERO_GAP = 0.2  # of the logarithmic range: how far left of it the zero stands
PAD = 0.05  # of the whole range, on either side
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")  # labels are plain text, so no formula can raise them


@dataclass(frozen=True)
class Scale:
    """An axis as it is drawn.

    Attributes:
        low, high: coordinates of the ends of the numeric range (of the first and the last choice).
        zero: the coordinate of 0 on a logarithmic axis that has one.
        choices: of a categorical axis, in order.
        integer: whether all its numbers are whole, so that ticks are too.
    """

    log: bool
    low: float
    high: float
    zero: float | None = None
    choices: tuple[Value, ...] = ()
    integer: bool = False

    @property
    def limits(self) -> tuple[float, float]:
        """The coordinates at the two ends of the plot."""
        start = self.low if self.zero is None else self.zero
        pad = 0.5 if self.choices else PAD * (self.high - start)
        return start - pad, self.high + pad

    @property
    def broken_at(self) -> float | None:
        """Where the axis is broken between 0 and the logarithmic range."""
        return None if self.zero is None else (self.zero + self.low) / 2

    def coordinate(self, value: Value) -> float:
        """The place of a value. Ask `has_value` first: a point without a value on the axis has no place."""
        if self.choices:
            return float(self.choices.index(value))
        assert isinstance(value, (int, float)), value
        if not self.log:
            return float(value)
        if value > 0:
            return math.log10(value)
        assert self.zero is not None, value
        return self.zero

    def ticks(self, num: int = 5) -> dict[float, str]:
        """Coordinate -> label of the major ticks, at most about `num`."""
        if self.choices:
            return {float(place): value_text(choice) for place, choice in enumerate(self.choices)}
        zero = {} if self.zero is None else {self.zero: "0"}
        if self.log:
            return zero | self._log_ticks(num)
        places = MaxNLocator(num, steps=[1, 2, 2.5, 5, 10], integer=self.integer).tick_values(self.low, self.high)
        slack = 1e-9 * (self.high - self.low)
        return {float(p): f"{p:.4g}" for p in places if self.low - slack <= p <= self.high + slack}

    def _log_ticks(self, num: int) -> dict[float, str]:
        slack = 1e-9
        decades = range(math.ceil(self.low - slack), math.floor(self.high + slack) + 1)
        if len(decades) >= 2:
            step = math.ceil(len(decades) / num)
            return {float(decade): f"10{str(decade).translate(RAISED)}" for decade in decades[::step]}
        places: dict[float, str] = {}
        for decade in range(math.floor(self.low) - 1, math.ceil(self.high) + 1):
            for digit in (1, 2, 5):
                place = decade + math.log10(digit)
                if self.low - slack <= place <= self.high + slack:
                    places[place] = f"{digit * 10.0**decade:.4g}"
        return places

    def minor_ticks(self) -> list[float]:
        """Coordinates of the unlabelled ticks: 2 to 9 in each decade, up to six decades."""
        if not self.log or self.high - self.low > 6:
            return []
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        places = [decade + math.log10(digit) for decade in decades for digit in range(2, 10)]
        return [place for place in places if self.low - 1e-9 <= place <= self.high + 1e-9]


def has_value(axis: Axis, point: SearchPoint) -> bool:
    """Whether the point lies somewhere on the axis."""
    if axis.key not in point.params:
        return False
    value = point.params[axis.key]
    return axis.kind == "categorical" or (isinstance(value, (int, float)) and not isinstance(value, bool))


def make_scale(axis: Axis, points: Iterable[SearchPoint]) -> Scale:
    """The scale that holds the axis's range and every point on it, even one outside the range (a hand-set start)."""
    values = [point.params[axis.key] for point in points if has_value(axis, point)]
    if axis.kind == "categorical":
        extra = tuple(dict.fromkeys(value for value in values if value not in axis.choices))
        return Scale(False, 0.0, max(0.0, len(axis.choices + extra) - 1.0), choices=axis.choices + extra or (None,))
    numbers = [float(value) for value in values if isinstance(value, (int, float))]
    numbers += [float(end) for end in (axis.low, axis.high) if end is not None]
    if axis.kind == "linear":
        low, high = _ends(numbers)
        ends = (axis.low, axis.high, *values)
        whole = all(isinstance(end, int) or (isinstance(end, float) and end.is_integer()) for end in ends)
        return Scale(False, low, high, integer=whole)
    low, high = _ends([math.log10(number) for number in numbers if number > 0])
    with_zero = axis.kind == "zero_or_log" or any(number <= 0 for number in numbers)
    return Scale(True, low, high, zero=low - ZERO_GAP * (high - low) if with_zero else None)


def _ends(numbers: list[float]) -> tuple[float, float]:
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def draw_scale(axes: Axes, which: Literal["x", "y"], scale: Scale, label: str, num_ticks: int = 5) -> None:
    """Set one axis of a plot: limits, ticks, label, and the strip and break mark of a zero."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    ticks = scale.ticks(num_ticks)
    axis.set_ticks(list(ticks), list(ticks.values()))
    axis.set_minor_locator(FixedLocator(scale.minor_ticks()))
    axis.set_label_text(label)
    (axes.set_xlim if which == "x" else axes.set_ylim)(*scale.limits)
    if scale.choices and which == "x" and sum(len(text) for text in ticks.values()) > 24:
        axes.tick_params("x", rotation=30)
    if scale.broken_at is not None:
        _draw_break(axes, which, scale.broken_at, scale.limits[0])


def _draw_break(axes: Axes, which: Literal["x", "y"], place: float, start: float) -> None:
    """Shade the zero's strip and cut the axis line with two slashes."""
    if which == "x":
        axes.axvspan(start, place, color=FAINT, alpha=0.45, linewidth=0, zorder=0)
        transform: Transform = blended_transform_factory(axes.transData, axes.transAxes)
        spot, slash = (place, 0.0), [(-0.5, -1.0), (0.5, 1.0)]
    else:
        axes.axhspan(start, place, color=FAINT, alpha=0.45, linewidth=0, zorder=0)
        transform = blended_transform_factory(axes.transAxes, axes.transData)
        spot, slash = (0.0, place), [(-1.0, -0.5), (1.0, 0.5)]
    figure = axes.get_figure(root=True)
    assert figure is not None
    axes.plot(*_lone(spot), "s", color="white", markersize=3.5, transform=transform, clip_on=False, zorder=6)
    for shift in (-1.8 / 72, 1.8 / 72):  # inches
        across, along = (shift, 0.0) if which == "x" else (0.0, shift)
        apart = ScaledTranslation(across, along, figure.dpi_scale_trans)
        axes.plot(*_lone(spot), marker=slash, color=INK, markersize=7, transform=transform + apart, clip_on=False,
                  zorder=7)  # fmt: skip


def _lone(spot: tuple[float, float]) -> tuple[list[float], list[float]]:
    return [spot[0]], [spot[1]]
