"""One look for all figures, and what they share: labels, an axis' coordinates, files with the same bytes each time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.metrics import METRICS
from harness.sweep.points import Axis, Objective, SearchPoint, SearchResult, Value

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.xmargin": 0.06,
    "axes.ymargin": 0.08,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "harness",
    "pdf.fonttype": 42,
}


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure of width x height inches, and its plots [rows, columns]."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """NAME.png and NAME.svg, without a date."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    with matplotlib.rc_context(RC):
        figure.savefig(paths[0], dpi=200)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths


def completes(result: SearchResult, arm: str) -> list[SearchPoint]:
    """The arm's complete points."""
    return [point for point in result.points if point.arm == arm and point.state == "complete"]


def best_of(points: Sequence[SearchPoint], objective: Objective) -> SearchPoint:
    """The best feasible point; the best of all where none is feasible."""
    sign = -1 if objective.direction == "maximize" else 1
    return min([p for p in points if p.feasible] or points, key=lambda p: (sign * p.values[0], p.number))


def _unit(metric: str) -> str:
    known = METRICS.get(metric.removeprefix("valid_").replace("/", "_"))
    return known.unit if known else ""


def shown(metric: str, value: float) -> float:
    """A stored value as figures show it: fractions as percent."""
    return value * 100 if _unit(metric) in ("%", "points") else value


def label_of(objective: Objective) -> str:
    """Name, unit, direction."""
    unit = f" ({_unit(objective.metric)})" if _unit(objective.metric) else ""
    name = objective.metric.removeprefix("valid_").replace("/", " ").replace("_", " ")
    return f"{name}, validation{unit} {'↑' if objective.direction == 'maximize' else '↓'}"


def coordinate(axis: Axis, value: Value) -> float:
    """Where a value stands: log10 on a logarithmic axis, a zero one decade below its low end, a choice by its place."""
    if axis.kind == "categorical":
        return float(axis.choices.index(value))
    assert isinstance(value, (int, float)), value
    if axis.kind == "linear":
        return float(value)
    return math.log10(value) if value > 0 else math.log10(axis.low or 1e-6) - 1


def dress_axis(axes: Axes, axis: Axis, which: str) -> None:
    """Label and ticks of one axis of a plot."""
    line = axes.xaxis if which == "x" else axes.yaxis
    line.set_label_text(axis.label)
    if axis.kind == "linear":
        return
    if axis.kind == "categorical":
        line.set_ticks(list(range(len(axis.choices))), [str(choice) for choice in axis.choices])
        return
    assert axis.low is not None and axis.high is not None
    decades = np.arange(math.ceil(math.log10(axis.low)), math.floor(math.log10(axis.high)) + 1)
    zero = [coordinate(axis, 0.0)] if axis.kind == "zero_or_log" else []
    line.set_ticks([*zero, *decades], ["0"] * len(zero) + [f"$10^{{{decade}}}$" for decade in decades])
    if axis.kind == "zero_or_log":
        (axes.axvline if which == "x" else axes.axhline)(zero[0] + 0.5, color="#999999", lw=0.8, ls=(0, (1, 2)))
