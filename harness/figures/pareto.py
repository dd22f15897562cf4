"""Target against source: every complete trial, and each arm's non-dominated front."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from harness.figures.style import COLOURS, completes, label_of, new_figure, shown
from harness.sweep.points import Objective, SearchPoint, SearchResult


def front(points: Sequence[SearchPoint], objectives: Sequence[Objective]) -> list[SearchPoint]:
    """The points that no other one beats in one objective without losing in another."""
    signs = [1 if objective.direction == "maximize" else -1 for objective in objectives]

    def signed(point: SearchPoint) -> tuple[float, ...]:
        return tuple(sign * value for sign, value in zip(signs, point.values, strict=True))

    def dominated(point: SearchPoint) -> bool:
        mine = signed(point)
        return any(
            all(a >= b for a, b in zip(signed(other), mine, strict=True)) and signed(other) != mine for other in points
        )

    return sorted((p for p in points if not dominated(p)), key=lambda p: p.values[0])


def draw(result: SearchResult) -> Figure | None:
    """Two objectives against each other; None for another number of them, or where nothing is complete."""
    if len(result.objectives) != 2:
        return None
    first, second = result.objectives
    figure, ((axes,),) = new_figure(5.2, 3.8)
    drawn = False
    for colour, arm in zip(COLOURS * 3, result.axes, strict=False):
        points = completes(result, arm)
        if not points:
            continue
        drawn = True
        best = front(points, result.objectives)
        for chosen, style in ((points, {"marker": "o", "ms": 3, "alpha": 0.35, "ls": ""}), (best, {"marker": "o"})):
            axes.plot(
                [shown(first.metric, p.values[0]) for p in chosen],
                [shown(second.metric, p.values[1]) for p in chosen],
                color=colour,
                label=f"{arm}: front of {len(best)} in {len(points)}" if chosen is best else None,
                **style,
            )
    axes.set_xlabel(label_of(first))
    axes.set_ylabel(label_of(second))
    axes.legend(fontsize=8)
    return figure if drawn else None
