"""The points that a figure shows, and their scores: shared by all figures."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import quantiles

from harness.errors import UserError
from harness.records.search import Axis, Objective, PointState, SearchPoint, SearchResult


def arm_axes(result: SearchResult, arm: str) -> tuple[Axis, ...]:
    """The arm's axes; () for one that searches nothing.

    Raises:
        UserError: the sweep has no such arm.
    """
    arms = all_arms(result)
    if arm not in arms:
        raise UserError(f"{result.name} has no arm {arm!r}; arms: {', '.join(arms) or 'none'}")
    return result.axes.get(arm, ())


def all_arms(result: SearchResult) -> tuple[str, ...]:
    """Every arm that has axes or points, in order."""
    return tuple(dict.fromkeys([*result.axes, *(point.arm for point in result.points)]))


def objective_at(result: SearchResult, objective: int) -> Objective:
    """The sweep's objective by its place.

    Raises:
        UserError: there are fewer.
    """
    if not 0 <= objective < len(result.objectives):
        raise UserError(f"{result.name} has {len(result.objectives)} objectives, so there is no objective {objective}")
    return result.objectives[objective]


def points_in(result: SearchResult, arm: str, state: PointState) -> list[SearchPoint]:
    """The arm's points in a state; complete ones only with all their values."""
    enough = len(result.objectives) if state == "complete" else 0
    return [p for p in result.points if p.arm == arm and p.state == state and len(p.values) >= enough]


def eligible(points: Sequence[SearchPoint]) -> list[SearchPoint]:
    """The feasible points; all of them where none is feasible."""
    return [point for point in points if point.feasible] or list(points)


def best_point(points: Sequence[SearchPoint], direction: str, objective: int = 0) -> SearchPoint | None:
    """The best feasible point (the best of all where none is feasible; the earliest among equals)."""
    sign = -1 if direction == "maximize" else 1
    return min(eligible(points), key=lambda point: (sign * point.values[objective], point.number), default=None)


def focus(values: Sequence[float], direction: str) -> tuple[float, float]:
    """The range to show: all values except those that are far off on the bad side.

    Far off: beyond the quartile by more than three interquartile ranges (Tukey's outer fence, Exploratory Data
    Analysis, 1977). One diverged trial must not flatten the rest; a figure that uses this marks what it moves.
    """
    low, high = min(values), max(values)
    if len(values) < 5:
        return low, high
    lower, _, upper = quantiles(values, n=4, method="inclusive")
    reach = 3 * (upper - lower)
    if reach == 0:
        return low, high
    if direction == "minimize":
        return low, max(value for value in values if value <= upper + reach)
    return min(value for value in values if value >= lower - reach), high
