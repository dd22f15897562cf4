"""Draw the objective over two searched settings: every trial, on a surface that ends where the trials end.

Darker is better, whatever the metric's direction. A trial whose setting is exactly 0 on a logarithmic axis stands in
the shaded strip beside it; the surface does not go there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from matplotlib.patheffects import withStroke

from harness.errors import UserError
from harness.figures.labels import MetricLabel, axis_labels, metric_label, value_text
from harness.figures.scales import Scale, draw_scale, has_value, make_scale
from harness.figures.scores import arm_axes, best_point, focus, objective_at, points_in
from harness.figures.style import INK, PALETTE, WIDTH, add_legend, fit_label, new_figure, styled, words_of
from harness.figures.surface import fit_surface
from harness.records.search import Axis, SearchPoint, SearchResult

STAR = PALETTE[1]
LEVELS = 12


@styled
def contour(result: SearchResult, arm: str, x_key: str, y_key: str, objective: int = 0) -> Figure:
    """One arm's scores over two of its axes.

    Circles are complete trials coloured by their score (hollow where a constraint is violated), crosses pruned ones,
    the star the best feasible trial (the best of all where none is feasible).

    Raises:
        UserError: the sweep has no such arm or objective, or the arm no such axis.
    """
    goal, axes_of_arm = objective_at(result, objective), arm_axes(result, arm)
    x_axis, y_axis = (_find_axis(axes_of_arm, key, arm) for key in (x_key, y_key))
    complete, pruned = (
        [p for p in points_in(result, arm, state) if has_value(x_axis, p) and has_value(y_axis, p)]
        for state in ("complete", "pruned")
    )
    figure = new_figure(WIDTH, 5.0)
    axes = figure.subplots()
    view = _View(x_axis, y_axis, make_scale(x_axis, [*complete, *pruned]), make_scale(y_axis, [*complete, *pruned]))
    labels, label = axis_labels(axes_of_arm), metric_label(goal)
    draw_scale(axes, "x", view.x_scale, labels[x_key])
    draw_scale(axes, "y", view.y_scale, labels[y_key])
    axes.set_title(words_of(arm), loc="left", fontweight="bold", pad=17)
    if complete:
        _draw_scores(figure, axes, view, complete, objective, goal.direction, label)
    else:
        axes.text(0.5, 0.5, "no complete trial", transform=axes.transAxes, ha="center", va="center")
    for point in pruned:
        _mark(axes, view.place(point), marker="x", color=INK, markersize=5, markeredgewidth=1.1, zorder=4)
    if handles := _legend(complete, pruned):
        add_legend(figure, "outside lower left", handles)
    return figure


class _View:
    """The two axes and where a point lies on them."""

    def __init__(self, x_axis: Axis, y_axis: Axis, x_scale: Scale, y_scale: Scale) -> None:
        self.x_axis, self.y_axis, self.x_scale, self.y_scale = x_axis, y_axis, x_scale, y_scale

    def place(self, point: SearchPoint) -> tuple[float, float]:
        return (
            self.x_scale.coordinate(point.params[self.x_axis.key]),
            self.y_scale.coordinate(point.params[self.y_axis.key]),
        )

    def in_strip(self, point: SearchPoint) -> bool:
        x, y = self.place(point)
        return x == self.x_scale.zero or y == self.y_scale.zero

    @property
    def numeric(self) -> bool:
        return not self.x_scale.choices and not self.y_scale.choices


def _find_axis(axes: Sequence[Axis], key: str, arm: str) -> Axis:
    for axis in axes:
        if axis.key == key:
            return axis
    raise UserError(f"arm {arm!r} has no axis {key!r}; axes: {', '.join(axis.key for axis in axes) or 'none'}")


def colours(direction: str) -> Colormap:
    """A sequential map, even in lightness, whose dark end is the better one; without viridis's glaring yellow end."""
    import matplotlib

    viridis = matplotlib.colormaps["viridis"]
    samples = [viridis(0.08 + 0.87 * step / 255) for step in range(256)]
    return LinearSegmentedColormap.from_list("better_is_darker", samples if direction == "minimize" else samples[::-1])


def _draw_scores(
    figure: Figure,
    axes: Axes,
    view: _View,
    complete: Sequence[SearchPoint],
    objective: int,
    direction: str,
    label: MetricLabel,
) -> None:
    scores = [point.values[objective] * label.scale for point in complete]
    low, high = focus(scores, direction)
    norm = Normalize(low, high) if high > low else Normalize(low - 0.5, high + 0.5)
    shades = ScalarMappable(norm, colours(direction))
    inside = [(p, score) for p, score in zip(complete, scores, strict=True) if not view.in_strip(p)]
    if view.numeric and high > low:
        _draw_surface(axes, view, inside, shades, (low, high))
    for point, colour in zip(complete, shades.to_rgba(np.asarray(scores)), strict=True):
        looks = (colour, "white", 0.8) if point.feasible else ("white", colour, 1.8)
        _mark(axes, view.place(point), marker="o", markersize=7 if point.feasible else 6, markerfacecolor=looks[0],
              markeredgecolor=looks[1], markeredgewidth=looks[2], zorder=3)  # fmt: skip
    off = "max" if max(scores) > high else "min" if min(scores) < low else "neither"
    bar = figure.colorbar(shades, ax=axes, label=fit_label(label.full, 3.6), extend=off, pad=0.02)
    bar.outline.set_linewidth(0.5)
    best = best_point(complete, direction, objective)
    assert best is not None
    _draw_best(axes, view, best, label.number(best.values[objective]))
    names = axis_labels([view.x_axis, view.y_axis])
    settings = ", ".join(
        f"{names[axis.key]} {value_text(best.params[axis.key])}" for axis in (view.x_axis, view.y_axis)
    )
    words = f"best: trial {best.number}, {settings}"
    axes.annotate(words, (0, 1), (0, 5), xycoords="axes fraction", textcoords="offset points", fontsize=8)


def _draw_surface(
    axes: Axes,
    view: _View,
    inside: Sequence[tuple[SearchPoint, float]],
    shades: ScalarMappable,
    limits: tuple[float, float],
) -> None:
    places = [view.place(point) for point, _ in inside]
    # Scores outside of the colours' limits would bend the surface everywhere.
    clipped = [min(max(score, limits[0]), limits[1]) for _, score in inside]
    surface = fit_surface([x for x, _ in places], [y for _, y in places], clipped)
    if surface is None:
        return
    step = (limits[1] - limits[0]) / LEVELS
    levels = [limits[0] + step * place for place in range(LEVELS + 1)]
    edge = Polygon(surface.hull.tolist(), closed=True, fill=False, linewidth=0, transform=axes.transData)
    axes.add_patch(edge)
    grid = (surface.x, surface.y, surface.z)
    filled = axes.contourf(*grid, levels=levels, cmap=shades.cmap, norm=shades.norm, alpha=0.6, zorder=1)
    lines = axes.contour(*grid, levels=levels[1:-1], colors="white", linewidths=0.4, zorder=1.5)
    for layer in (filled, lines):
        layer.set_clip_path(edge)


def _draw_best(axes: Axes, view: _View, best: SearchPoint, words: str) -> None:
    """The star, and its score on the side where there is room."""
    x, y = view.place(best)
    _mark(axes, (x, y), marker="*", markersize=17, color=STAR, markeredgecolor="white", markeredgewidth=1, zorder=6)
    left, right = view.x_scale.limits
    bottom, top = view.y_scale.limits
    to_left, down = x > (left + right) / 2, y > bottom + 0.85 * (top - bottom)
    axes.annotate(
        f"best {words}",
        (x, y),
        (-11 if to_left else 11, -12 if down else 8),
        textcoords="offset points",
        ha="right" if to_left else "left",
        va="top" if down else "bottom",
        fontsize=8.5,
        fontweight="bold",
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        zorder=7,
    )


def _mark(axes: Axes, place: tuple[float, float], **looks: Any) -> None:
    strokes = [withStroke(linewidth=2.4, foreground="white")] if looks.get("marker") == "x" else None
    axes.plot([place[0]], [place[1]], linestyle="", path_effects=strokes, **looks)


def _legend(complete: Sequence[SearchPoint], pruned: Sequence[SearchPoint]) -> list[Line2D]:
    spot: Any = {"linestyle": "", "markersize": 6}
    handles = []
    if any(point.feasible for point in complete):
        handles.append(Line2D([], [], marker="o", color="#777777", markeredgecolor="white", label="complete", **spot))
    if any(not point.feasible for point in complete):
        handles.append(Line2D([], [], marker="o", color="#777777", markerfacecolor="white", markeredgewidth=1.8,
                              label="violates a constraint", **spot))  # fmt: skip
    if pruned:
        handles.append(Line2D([], [], marker="x", color=INK, markeredgewidth=1.1, label="pruned", **spot))
    if complete:
        found = any(point.feasible for point in complete)
        handles.append(Line2D([], [], linestyle="", marker="*", markersize=11, color=STAR, markeredgecolor="white",
                              label="best" if found else "best (none meets the constraints)"))  # fmt: skip
    return handles
