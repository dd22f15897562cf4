"""Draw the expected best validation score of n trials, for every n up to the budget.

Dodge et al. 2019, "Show Your Work", arXiv 1909.03004. It compares arms at equal tuning budgets; comparing their best
trials would favour the arm that was searched longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.config.sweep import Goal
from harness.figures.labels import metric_label
from harness.figures.scores import all_arms, focus, objective_at, points_in
from harness.figures.style import WIDTH, add_legend, add_note, arm_looks, fit_label, new_figure, say, styled, words_of
from harness.records.search import SearchResult

BAND = (0.25, 0.75)
HOW_TO_READ = (
    "Expected best of n trials drawn with replacement from an arm's own (arXiv 1909.03004){band}. "
    "A trial that was pruned{infeasible} or diverged is spent budget: it counts as the arm's worst usable score.\n"
    "Holds for random, quasi-random and grid search; for an adaptive sampler (TPE, CMA-ES, GP) it only describes."
)


def expected_best(values: Sequence[float], num_draws: int, direction: Goal) -> float:
    """The expected best of `num_draws` draws, with replacement, from the empirical distribution of `values`.

    E[max] = sum_i v_i (F(v_i)^n - F(v_(i-1))^n) over the sorted values (Dodge et al. 2019, arXiv
    1909.03004); for `minimize`, the same of the negated values. The figure draws it. It is biased to the pessimistic
    side (Tang et al. 2020, arXiv 2004.13705); the mean over draws without replacement is not, but varies more: at n = N
    it is the single best trial, luck included. Dodge et al. 2021 (arXiv 2110.00613) compare them: the biased ones lead
    to fewer wrong conclusions about which of two models is better, which is what a figure of arms is for.

    Args:
        values: scores, at least one.
        num_draws: at least 1; it may exceed the number of values.

    Raises:
        ValueError: no values or no draws.
    """
    ordered = _from_worst(values, num_draws, direction)
    total = len(ordered)
    return sum(
        value * ((place / total) ** num_draws - ((place - 1) / total) ** num_draws)
        for place, value in enumerate(ordered, start=1)
    )


def best_quantile(values: Sequence[float], num_draws: int, share: float, direction: Goal) -> float:
    """The score that the best of `num_draws` draws with replacement fails to beat in a `share` of all cases.

    The smallest v with F(v)^n >= share, from worst to best.
    """
    ordered = _from_worst(values, num_draws, direction)
    total = len(ordered)
    return next(v for i, v in enumerate(ordered, start=1) if (i / total) ** num_draws >= share - 1e-12)


def _from_worst(values: Sequence[float], num_draws: int, direction: Goal) -> list[float]:
    if not values or num_draws < 1:
        raise ValueError(f"expected best of {num_draws} draws from {len(values)} values: both must be at least 1")
    return sorted(values, reverse=direction == "minimize")


@dataclass(frozen=True)
class Draws:
    """One score for each trial of an arm; `stand_ins` of them are the worst score, for trials that have none."""

    values: tuple[float, ...]
    stand_ins: int


def draws_of(result: SearchResult, arm: str, objective: int = 0) -> Draws:
    """The scores that an arm's budget bought, one for each finished trial.

    A pruned trial was stopped because it lost, a diverged one (`nan`) has no score, an infeasible one may not be
    chosen: each is a spent draw without a usable score, and counts as the arm's worst usable one. Leaving them out
    would flatter an arm that fails often. Trials that failed for another reason (a killed process, no memory) say
    nothing about their settings and are left out.
    """
    complete = points_in(result, arm, "complete")
    scores = [point.values[objective] for point in complete if point.feasible]
    if not scores:
        return Draws((), 0)
    spent = len(complete) - len(scores) + len(points_in(result, arm, "pruned"))
    spent += sum(point.reason == "nan" for point in points_in(result, arm, "failed"))
    worst = max(scores) if objective_at(result, objective).direction == "minimize" else min(scores)
    return Draws((*scores, *[worst] * spent), spent)


@styled
def draw_expected_validation(result: SearchResult, objective: int = 0, band: bool = True) -> Figure:
    """A line an arm over the number of trials; the band holds the middle half of the best of n draws."""
    goal, arms = objective_at(result, objective), all_arms(result)
    draws = {arm: draws_of(result, arm, objective) for arm in arms}
    figure = new_figure(WIDTH, 4.6)
    axes = figure.subplots()
    without = [arm for arm in arms if not draws[arm].values]
    if len(without) == len(arms):
        say(axes, "No arm has a complete trial that meets the constraints." if arms else "No trials.")
        return figure
    curve: list[float] = []
    for arm, (colour, marker) in arm_looks(arms).items():
        if draws[arm].values:
            curve += _draw_arm(axes, arm, draws[arm], goal.direction, metric_label(goal).scale, colour, marker, band)
    low, high = focus(curve, goal.direction)
    pad = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    axes.set_ylim(low - pad, high + pad)
    axes.set_xlim(0.5, max(len(drawn.values) for drawn in draws.values()) + 0.5)
    axes.set_xlabel("trials")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.set_ylabel(fit_label(f"expected best {metric_label(goal).full}", 3.4))
    axes.set_title("What a tuning budget buys (validation)", loc="left")
    axes.grid(axis="y")
    add_legend(figure, "outside upper left")
    constrained = any(not point.feasible for point in result.points if point.state == "complete")
    note = HOW_TO_READ.format(
        band="; the band holds the middle half" if band else "",
        infeasible=", violates a constraint" if constrained else "",
    )
    add_note(figure, note + (f"\nNo usable trial: {', '.join(map(words_of, without))}." if without else ""))
    return figure


def _draw_arm(
    axes: Axes, arm: str, draws: Draws, direction: Goal, scale: float, colour: str, marker: str, band: bool
) -> list[float]:
    """The arm's line and band; the line's scores."""
    values = [value * scale for value in draws.values]
    budgets = list(range(1, len(values) + 1))
    curve = [expected_best(values, n, direction) for n in budgets]
    counted = f"{len(values)} {'trial' if len(values) == 1 else 'trials'}" + (
        f", {draws.stand_ins} as worst" if draws.stand_ins else ""
    )
    axes.plot(
        budgets,
        curve,
        color=colour,
        marker=marker,
        markersize=4,
        markevery=max(1, len(budgets) // 8),
        label=f"{words_of(arm)} ({counted})",
    )
    if band:
        low, high = [[best_quantile(values, n, share, direction) for n in budgets] for share in BAND]
        axes.fill_between(budgets, low, high, color=colour, alpha=0.13, linewidth=0)
    return curve
