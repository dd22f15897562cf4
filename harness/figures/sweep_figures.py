"""All figures of a sweep, into one folder."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from matplotlib.figure import Figure

from harness.figures.contour import contour
from harness.figures.expected_validation import draw_expected_validation
from harness.figures.importance import draw_importance, measure
from harness.figures.isolation import draw_isolation
from harness.figures.labels import axis_labels
from harness.figures.pareto import draw_pareto
from harness.figures.scores import all_arms, arm_axes
from harness.figures.style import save, slug
from harness.records.search import Axis, SearchResult

REGULARISERS = ("stochastic_depth", "l2_lambda")  # the two whose trade-off the strategies are about


def draw_sweep(result: SearchResult, folder: Path) -> list[Path]:
    """Draw every figure that applies, as PNG and SVG; the paths.

    Importance, isolation and expected validation (one each an objective, its name in the file's when there are
    several); a contour an arm and pair of axes (`axis_pairs`); a Pareto figure for two objectives.
    """
    paths = []
    for name, figure in sweep_figures(result):
        paths += save(figure, folder, name)
    return paths


def sweep_figures(result: SearchResult) -> Iterator[tuple[str, Figure]]:
    """Every figure that applies, with the name of its file."""
    names: set[str] = set()
    for name, figure in _figures(result):
        unique = name
        while unique in names:  # two arms or keys whose names differ only in signs that a file's name cannot have
            unique += "_"
        names.add(unique)
        yield unique, figure


def axis_pairs(result: SearchResult, arm: str, objective: int = 0) -> list[tuple[Axis, Axis]]:
    """The pairs of axes that the arm's contours show.

    Every pair among `stochastic_depth` and `l2_lambda` where the arm searches both; else its two most important axes
    (its first two where importances cannot be measured); none for fewer than two axes.
    """
    axes = arm_axes(result, arm)
    known = sorted((a for a in axes if a.label in REGULARISERS), key=lambda a: REGULARISERS.index(a.label))
    if len(known) >= 2:
        return list(combinations(known, 2))
    if len(axes) < 2:
        return []
    shares = measure(result, arm, objective).shares or {}
    chosen = sorted(axes, key=lambda axis: -shares.get(axis.key, 0.0))[:2]
    first, second = sorted(chosen, key=axes.index)
    return [(first, second)]


def _figures(result: SearchResult) -> Iterator[tuple[str, Figure]]:
    searched = [arm for arm in all_arms(result) if arm_axes(result, arm)]
    for place, goal in enumerate(result.objectives):
        suffix = "" if len(result.objectives) == 1 else f"_{slug(goal.metric.removeprefix('valid_'))}"
        if searched:
            yield f"importance{suffix}", draw_importance(result, objective=place)
        for arm in searched:
            labels = axis_labels(arm_axes(result, arm))
            for x_axis, y_axis in axis_pairs(result, arm, place):
                name = f"contour_{arm}_{labels[x_axis.key]}_{labels[y_axis.key]}"
                yield slug(name) + suffix, contour(result, arm, x_axis.key, y_axis.key, place)
        if searched:
            yield f"isolation{suffix}", draw_isolation(result, place)
        if result.points:
            yield f"expected_validation{suffix}", draw_expected_validation(result, place)
    if len(result.objectives) == 2 and result.points:
        yield "pareto", draw_pareto(result)
