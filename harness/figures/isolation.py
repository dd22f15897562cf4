"""Isolation plots: the best score that any values of the other settings reach, against each value of one.

Godbole et al., Deep Learning Tuning Playbook (2023), "isolation plots": the envelope, not the cloud, shows a setting's
effect, because the others are at their best along it.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.figures.style import COLOURS, completes, coordinate, dress_axis, label_of, new_figure, shown
from harness.sweep.points import Axis, Objective, SearchPoint, SearchResult

NUM_BINS = 5


def envelope(x: np.ndarray, values: np.ndarray, maximize: bool, num_bins: int = NUM_BINS) -> list[int]:
    """Index of the best point in each bin of equal width along x (bins without points are left out)."""
    if len(x) == 0:
        return []
    width = np.ptp(x) or 1.0
    bins = np.minimum(((x - x.min()) / width * num_bins).astype(int), num_bins - 1)
    signed = values if maximize else -values
    return [int(max(np.flatnonzero(bins == number), key=lambda i: signed[i])) for number in np.unique(bins)]


def draw(result: SearchResult) -> Figure | None:
    """A row an arm, a panel a setting; None where nothing is complete."""
    rows = [arm for arm, axes in result.axes.items() if axes and completes(result, arm)]
    if not rows:
        return None
    keys = list(dict.fromkeys(axis.key for arm in rows for axis in result.axes[arm]))
    figure, grid = new_figure(2.7 * len(keys) + 0.6, 1.9 * len(rows) + 0.4, len(rows), len(keys))
    for row, arm in zip(grid, rows, strict=True):
        by_key = {axis.key: axis for axis in result.axes[arm]}
        for axes, key in zip(row, keys, strict=True):
            if key not in by_key:
                axes.set_axis_off()
                continue
            _panel(axes, by_key[key], completes(result, arm), result.objectives[0])
            axes.set_title(arm)
    figure.supylabel(label_of(result.objectives[0]), fontsize=9)
    return figure


def _panel(axes: Axes, axis: Axis, points: list[SearchPoint], objective: Objective) -> None:
    x = np.array([coordinate(axis, point.params[axis.key]) for point in points])
    values = np.array([shown(objective.metric, point.values[0]) for point in points])
    axes.plot(x, values, "o", ms=3.5, color="#AAAAAA")
    best = envelope(x, values, objective.direction == "maximize")
    best.sort(key=lambda index: x[index])
    axes.plot(x[best], values[best], "o-", ms=5, lw=1.2, color=COLOURS[0])
    axes.margins(x=0.06, y=0.1)
    dress_axis(axes, axis, "x")
