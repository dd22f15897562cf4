"""The objective over two searched settings: every trial as a point, an interpolated surface behind them."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import QhullError

from harness.figures.style import (
    best_of,
    completes,
    coordinate,
    dress_axis,
    label_of,
    new_figure,
    shown,
)
from harness.sweep.points import Axis, SearchPoint, SearchResult

MIN_SURFACE = 8  # complete trials below which a surface would be made up


def contour(result: SearchResult, arm: str, x_key: str, y_key: str) -> Figure:
    """One arm's objective over two settings.

    Filled circles are complete trials, hollow ones violate a constraint, crosses were pruned; the star is the best.
    The surface is linear between trials and ends at their hull.
    """
    figure, ((axes,),) = new_figure(5.0, 3.8)
    by_key = {axis.key: axis for axis in result.axes[arm]}
    x_axis, y_axis = by_key[x_key], by_key[y_key]
    objective, points = result.objectives[0], completes(result, arm)
    pruned = [p for p in result.points if p.arm == arm and p.state == "pruned"]
    for axis, which in ((x_axis, "x"), (y_axis, "y")):
        dress_axis(axes, axis, which)
    axes.set_title(arm)
    axes.use_sticky_edges = False  # a surface would cut the points on its rim
    axes.margins(0.06)
    if pruned:
        axes.plot(*_xy(pruned, x_axis, y_axis), "x", color="#777777", ms=5, label="pruned")
    if not points:
        axes.text(0.5, 0.5, "no complete trial", ha="center", va="center", transform=axes.transAxes)
        return figure
    colours = "viridis" if objective.direction == "maximize" else "viridis_r"  # bright is better
    values = np.array([shown(objective.metric, point.values[0]) for point in points])
    x, y = _xy(points, x_axis, y_axis)
    limits = (values.min(), values.max() if values.max() > values.min() else values.min() + 1e-9)
    _surface(axes, x, y, values, colours, limits)
    feasible = np.array([point.feasible for point in points])
    scatter = axes.scatter(
        x, y, c=values, cmap=colours, vmin=limits[0], vmax=limits[1], s=34, zorder=3,
        edgecolors=["#222222" if ok else "#D55E00" for ok in feasible],
        linewidths=[0.6 if ok else 1.6 for ok in feasible],
    )  # fmt: skip
    if not feasible.all():
        axes.plot([], [], "o", mfc="none", mec="#D55E00", mew=1.6, label="violates a constraint")
    best = best_of(points, objective)
    bx, by = _xy([best], x_axis, y_axis)
    kept = " that keeps the constraints" if best.feasible and not feasible.all() else ""
    axes.plot(
        bx, by, "*", ms=15, mfc="none", mec="#D00000", mew=1.4, zorder=4, label=f"best{kept} (trial {best.number})"
    )
    figure.colorbar(scatter, ax=axes, label=label_of(objective))
    figure.legend(loc="outside lower center", ncols=3, fontsize=7)
    return figure


def _xy(points: list[SearchPoint], x_axis: Axis, y_axis: Axis) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([coordinate(x_axis, point.params[x_axis.key]) for point in points]),
        np.array([coordinate(y_axis, point.params[y_axis.key]) for point in points]),
    )


def _surface(
    axes: Axes, x: np.ndarray, y: np.ndarray, values: np.ndarray, colours: str, limits: tuple[float, float]
) -> None:
    """The interpolated background; nothing where the points are too few or lie on a line."""
    if len(values) < MIN_SURFACE or np.ptp(x) == 0 or np.ptp(y) == 0:
        return
    try:
        surface = LinearNDInterpolator(np.column_stack([x, y]), values, rescale=True)
    except QhullError:
        return
    grid_x, grid_y = np.meshgrid(np.linspace(x.min(), x.max(), 120), np.linspace(y.min(), y.max(), 120))
    levels = np.linspace(limits[0], limits[1], 13)
    axes.contourf(grid_x, grid_y, surface(grid_x, grid_y), levels=levels, cmap=colours, alpha=0.55, zorder=1)
