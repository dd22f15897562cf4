"""Two objectives against each other: every complete trial, and each arm's non-dominated front."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.errors import UserError
from harness.figures.labels import metric_label
from harness.figures.scores import all_arms, eligible, focus, points_in
from harness.figures.style import (
    QUIET,
    WIDTH,
    add_legend,
    add_note,
    arm_looks,
    fit_label,
    new_figure,
    say,
    styled,
    words_of,
)
from harness.records.search import Objective, SearchPoint, SearchResult


def non_dominated(values: Sequence[tuple[float, ...]], directions: Sequence[str]) -> list[int]:
    """Indices of the non-dominated values: no other is as good in all objectives and better in one. Equals all stay."""
    signs = [1 if direction == "minimize" else -1 for direction in directions]
    losses = [tuple(sign * v for sign, v in zip(signs, value, strict=True)) for value in values]

    def dominated(mine: tuple[float, ...]) -> bool:
        return any(other != mine and all(o <= m for o, m in zip(other, mine, strict=True)) for other in losses)

    return [index for index, mine in enumerate(losses) if not dominated(mine)]


def front(points: Sequence[SearchPoint], objectives: Sequence[Objective]) -> list[SearchPoint]:
    """The non-dominated feasible points (of all points where none is feasible), by the first objective."""
    candidates = eligible(points)
    kept = non_dominated([p.values for p in candidates], [objective.direction for objective in objectives])
    return sorted((candidates[index] for index in kept), key=lambda p: (p.values, p.number))


@styled
def draw_pareto(result: SearchResult) -> Figure:
    """Points and fronts of all arms; a front is the edge of what the arm can reach, hence its steps.

    Raises:
        UserError: the sweep has not two objectives.
    """
    if len(result.objectives) != 2:
        raise UserError(f"{result.name}: a Pareto figure needs two objectives, there are {len(result.objectives)}")
    arms = all_arms(result)
    points = {arm: points_in(result, arm, "complete") for arm in arms}
    figure = new_figure(WIDTH, 5.2)
    axes = figure.subplots()
    if not any(points.values()):
        say(axes, "No complete trial." if arms else "No trials.")
        return figure
    for arm, (colour, marker) in arm_looks(arms).items():
        if points[arm]:
            _draw_arm(axes, arm, points[arm], result.objectives, colour, marker)
    labels = [metric_label(objective) for objective in result.objectives]
    axes.set_xlabel(labels[0].full)
    axes.set_ylabel(fit_label(labels[1].full, 3.6))
    axes.grid()
    axes.set_title("Trade-off on validation", loc="left")
    axes.set_title(better_corner(result.objectives), loc="right", fontsize=8, color=QUIET)
    add_legend(figure, "outside upper left")
    notes = []
    if outside := _focus(axes, [point for group in points.values() for point in group], result.objectives):
        notes.append(f"Not shown: {outside} {'trial' if outside == 1 else 'trials'} far outside, on no front.")
    if any(not point.feasible for group in points.values() for point in group):
        notes.append("Hollow: violates a constraint; not on a front unless none of the arm's trials is feasible.")
    if missing := [arm for arm in arms if not points[arm]]:
        notes.append(f"No complete trial: {', '.join(map(words_of, missing))}.")
    if notes:
        add_note(figure, "\n".join(notes))
    return figure


def _draw_arm(
    axes: Axes, arm: str, points: Sequence[SearchPoint], objectives: Sequence[Objective], colour: str, marker: str
) -> None:
    scales = [metric_label(objective).scale for objective in objectives]
    best = front(points, objectives)
    for point in points:
        chosen = point in best
        axes.plot(
            point.values[0] * scales[0],
            point.values[1] * scales[1],
            marker=marker,
            color=colour,
            markersize=6.5 if chosen else 4.5,
            markerfacecolor=colour if point.feasible else "white",
            markeredgecolor="black" if chosen else colour,
            markeredgewidth=0.8,
            alpha=1.0 if chosen else 0.45,
            zorder=4 if chosen else 2,
        )
    step = "post" if objectives[0].direction == "minimize" else "pre"
    axes.plot(
        [point.values[0] * scales[0] for point in best],
        [point.values[1] * scales[1] for point in best],
        drawstyle=f"steps-{step}",
        color=colour,
        marker=marker,
        markersize=0,
        zorder=3,
    )
    axes.plot([], [], color=colour, marker=marker, label=f"{words_of(arm)} ({len(best)} of {len(points)} on the front)")


def _focus(axes: Axes, points: Sequence[SearchPoint], objectives: Sequence[Objective]) -> int:
    """Set both axes' limits by `focus`, wide enough for every front; return how many points lie outside."""
    fronts = [p for arm in {p.arm for p in points} for p in front([p for p in points if p.arm == arm], objectives)]
    limits = []
    for place, objective in enumerate(objectives):
        low, high = focus([point.values[place] for point in points], objective.direction)
        low = min(low, *(point.values[place] for point in fronts))
        high = max(high, *(point.values[place] for point in fronts))
        pad = 0.06 * (high - low) or 0.05 * abs(high) or 0.01
        limits.append((low - pad, high + pad))
    scales = [metric_label(objective).scale for objective in objectives]
    axes.set_xlim(*(end * scales[0] for end in limits[0]))
    axes.set_ylim(*(end * scales[1] for end in limits[1]))
    return sum(any(not limits[i][0] <= point.values[i] <= limits[i][1] for i in (0, 1)) for point in points)


def better_corner(objectives: Sequence[Objective]) -> str:
    """Where both objectives are at their best, in words and an arrow."""
    right, up = (objective.direction == "maximize" for objective in objectives)
    arrow = {(False, False): "↙", (False, True): "↖", (True, False): "↘", (True, True): "↗"}[right, up]
    return f"better: {'upper' if up else 'lower'} {'right' if right else 'left'} {arrow}"
