"""Isolation plots: for each searched setting, the best score that the other settings allow at each of its values.

Godbole et al. 2023, Deep Learning Tuning Playbook, "isolation plots": the cloud shows all trials, the envelope compares
the setting's values with everything else near its best. Where the best lies at an end of the range, the range was too
small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.figures.labels import MetricLabel, axis_labels, metric_label
from harness.figures.scales import Scale, draw_scale, has_value, make_scale
from harness.figures.scores import all_arms, arm_axes, best_point, eligible, focus, objective_at, points_in
from harness.figures.style import INK, PALETTE, QUIET, WIDTH, add_legend, add_note, new_figure, say, styled, words_of
from harness.records.search import Axis, SearchPoint, SearchResult

CLOUD = "#8DB6D6"
ENVELOPE = PALETTE[0]
MIN_BINS, MAX_BINS = 3, 8


def bin_of(axis: Axis, scale: Scale, point: SearchPoint, num_bins: int) -> int:
    """The point's bin: one for each choice, -1 for zero on a logarithmic axis, else bins of equal width as drawn."""
    place = scale.coordinate(point.params[axis.key])
    if scale.choices:
        return round(place)
    if scale.zero is not None and place == scale.zero:
        return -1
    return min(num_bins - 1, int((place - scale.low) / (scale.high - scale.low) * num_bins))


def envelope(axis: Axis, points: Sequence[SearchPoint], direction: str, objective: int = 0) -> list[SearchPoint]:
    """The best point in each bin of the axis, by bin: feasible ones only, unless none is.

    A numeric axis has about sqrt(number of points) bins, 3 to 8.
    """
    usable = [point for point in eligible(points) if has_value(axis, point)]
    scale = make_scale(axis, points)
    num_bins = min(MAX_BINS, max(MIN_BINS, round(len(usable) ** 0.5)))
    bins: dict[int, list[SearchPoint]] = {}
    for point in usable:
        bins.setdefault(bin_of(axis, scale, point, num_bins), []).append(point)
    best = [best_point(bins[place], direction, objective) for place in sorted(bins)]
    return [point for point in best if point is not None]


@styled
def draw_isolation(result: SearchResult, objective: int = 0) -> Figure:
    """A row an arm, a column a setting, the same score axis along a row."""
    arms = [arm for arm in all_arms(result) if arm_axes(result, arm)]
    keys = list(dict.fromkeys(axis.key for arm in arms for axis in arm_axes(result, arm)))
    if not arms:
        figure = new_figure(5.0, 2.0)
        say(figure.subplots(), "No arm searches a setting.")
        return figure
    figure = new_figure(max(WIDTH, 0.8 + 2.15 * len(keys)), 1.05 + 1.95 * len(arms))
    grid = figure.subplots(len(arms), len(keys), squeeze=False)
    any_axes = {axis.key: axis for arm in arms for axis in arm_axes(result, arm)}
    labels = axis_labels(any_axes.values())
    moved = 0
    for row, arm in zip(grid, arms, strict=True):
        moved += _draw_row(row, result, arm, keys, labels, objective)
    label = metric_label(objective_at(result, objective))
    figure.supylabel(label.full, fontsize=9)
    add_legend(figure, "outside upper left", _legend(result, arms))
    if notes := _notes(result, arms, moved):
        add_note(figure, "\n".join(notes))
    return figure


def _notes(result: SearchResult, arms: Sequence[str], moved: int) -> list[str]:
    """Notes for what the marks cannot show: which trials the envelope is taken from, how many lie outside."""
    notes = []
    complete = {arm: points_in(result, arm, "complete") for arm in arms}
    if any(not point.feasible for points in complete.values() for point in points):
        lost = [arm for arm, points in complete.items() if points and not any(point.feasible for point in points)]
        among = f" (in {', '.join(map(words_of, lost))} none does: of all)" if lost else ""
        notes.append(f"The best is that of the trials that meet the constraints{among}.")
    if moved:
        notes.append(f"Triangles at the edge: {moved} {'trial' if moved == 1 else 'trials'} far outside.")
    return notes


def _draw_row(
    row: Sequence[Axes], result: SearchResult, arm: str, keys: Sequence[str], labels: dict[str, str], objective: int
) -> int:
    """One arm's panels; how many of its trials lie off the score axis."""
    goal, by_key = objective_at(result, objective), {axis.key: axis for axis in arm_axes(result, arm)}
    complete, pruned = points_in(result, arm, "complete"), points_in(result, arm, "pruned")
    label, scores = metric_label(goal), [point.values[objective] for point in complete]
    # Where constraints decide, what meets them is the envelope, so it lies inside, however far from the rest.
    feasible = [] if all(p.feasible for p in complete) else [p.values[objective] for p in complete if p.feasible]
    limits = _score_limits(scores, feasible, goal.direction, label)
    first = True
    for axes, key in zip(row, keys, strict=True):
        if key not in by_key:
            axes.set_axis_off()
            continue
        if first:
            axes.set_title(words_of(arm), loc="left", fontweight="bold", fontsize=9)
        else:
            axes.tick_params("y", labelleft=False)
        first = False
        _draw_panel(axes, by_key[key], complete, pruned, objective, goal.direction, label, limits)
        axes.set_xlabel(labels[key])
    low, high = (end / label.scale for end in limits)
    return sum(not low <= score <= high for score in scores)


def _score_limits(
    scores: Sequence[float], inside: Sequence[float], direction: str, label: MetricLabel
) -> tuple[float, float]:
    if not scores:
        return 0.0, 1.0
    low, high = focus(scores, direction)
    low, high = (end * label.scale for end in (min([low, *inside]), max([high, *inside])))
    pad = 0.09 * (high - low) or (0.05 * abs(high) or 1.0)
    return low - pad, high + pad


def _draw_panel(
    axes: Axes,
    axis: Axis,
    complete: Sequence[SearchPoint],
    pruned: Sequence[SearchPoint],
    objective: int,
    direction: str,
    label: MetricLabel,
    limits: tuple[float, float],
) -> None:
    complete, pruned = [p for p in complete if has_value(axis, p)], [p for p in pruned if has_value(axis, p)]
    scale = make_scale(axis, [*complete, *pruned])
    axes.set_ylim(*limits)
    axes.grid(axis="y")
    low, high = limits
    pad = 0.03 * (high - low)
    for point in complete:
        score = point.values[objective] * label.scale
        shown = float(np.clip(score, low + pad, high - pad)) if not low <= score <= high else score
        marker = "o" if shown == score else "^" if score > high else "v"
        face = CLOUD if point.feasible else "white"
        place = scale.coordinate(point.params[axis.key])
        axes.plot(place, shown, marker, markersize=4.5, markerfacecolor=face, markeredgecolor=CLOUD, zorder=2)
    worse_edge = 0.965 if direction == "minimize" else 0.035
    for point in pruned:
        place = scale.coordinate(point.params[axis.key])
        axes.plot(place, worse_edge, "x", color=QUIET, markersize=3.5, markeredgewidth=0.8,
                  transform=axes.get_xaxis_transform(), zorder=2)  # fmt: skip
    best = envelope(axis, complete, direction, objective)
    places = [scale.coordinate(point.params[axis.key]) for point in best]
    scores = [point.values[objective] * label.scale for point in best]
    joined = [i for i, place in enumerate(places) if place != scale.zero]
    axes.plot([places[i] for i in joined], [scores[i] for i in joined], color=ENVELOPE, linewidth=1.2, zorder=3,
              linestyle="none" if scale.choices else "-")  # fmt: skip
    axes.plot(
        places, scores, "o", color=ENVELOPE, markersize=6.5, markeredgecolor="white", markeredgewidth=0.7, zorder=4
    )
    if not complete:
        axes.text(0.5, 0.5, "no complete trial", transform=axes.transAxes, ha="center", va="center", color=QUIET)
        axes.set_yticks([])
    draw_scale(axes, "x", scale, axis.label, num_ticks=4)


def _legend(result: SearchResult, arms: Sequence[str]) -> list[Line2D]:
    mine = [point for point in result.points if point.arm in arms]
    complete = [point for point in mine if point.state == "complete"]
    spot: Any = {"linestyle": "", "marker": "o"}
    handles = []
    if complete:
        handles.append(Line2D([], [], **spot, color=CLOUD, markersize=4.5, label="trial"))
    if any(not point.feasible for point in complete):
        handles.append(
            Line2D([], [], **spot, color=CLOUD, markerfacecolor="white", markersize=4.5, label="violates a constraint")
        )
    if complete:
        handles.append(Line2D([], [], color=ENVELOPE, marker="o", markersize=6.5, markeredgecolor="white",
                              label="best over the other settings"))  # fmt: skip
    if any(point.state == "pruned" for point in mine):
        handles.append(Line2D([], [], linestyle="", marker="x", color=QUIET, markersize=4, label="pruned (no score)"))
    return handles or [Line2D([], [], linestyle="", color=INK, label="no trials")]
