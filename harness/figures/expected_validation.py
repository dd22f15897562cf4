"""Expected validation score against budget: how much tuning an arm needs to be as good as reported.

Dodge et al. 2019, "Show Your Work" (arXiv 1909.03004): the expected best of n trials drawn from an arm's observed ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import Literal

from matplotlib.figure import Figure

from harness.figures.style import COLOURS, completes, label_of, new_figure, shown
from harness.sweep.points import SearchResult

ADAPTIVE = "an adaptive sampler's trials are not independent draws: read it as a description"


def expected_best(values: Sequence[float], num_draws: int, direction: Literal["maximize", "minimize"]) -> float:
    """Expected best of `num_draws` trials drawn without replacement from `values`.

    Without replacement, because the estimate with replacement is biased low for the larger n (Tang et al. 2020,
    arXiv 2004.13897): with v sorted from worst to best of N, E = sum_i v_i C(i - 1, n - 1) / C(N, n).

    Args:
        values: the arm's scores.
        num_draws: 1 .. len(values).

    Raises:
        ValueError: more draws than values, or none.
    """
    total = len(values)
    if not 1 <= num_draws <= total:
        raise ValueError(f"{num_draws} draws from {total} values")
    ordered = sorted(values, reverse=direction == "minimize")
    weights = [comb(i - 1, num_draws - 1) for i in range(1, total + 1)]
    return sum(v * w for v, w in zip(ordered, weights, strict=True)) / comb(total, num_draws)


def draw(result: SearchResult, note: str = ADAPTIVE) -> Figure | None:
    """A line an arm; None where no arm has a complete trial.

    A pruned trial was stopped because it was losing: it counts as a draw with its last score.
    """
    objective = result.objectives[0]
    figure, ((axes,),) = new_figure(5.2, 3.6)
    drawn = False
    for colour, arm in zip(COLOURS * 3, result.axes, strict=False):
        values = [point.values[0] for point in completes(result, arm)]
        values += [
            point.valid[objective.metric]
            for point in result.points
            if point.arm == arm and point.state == "pruned" and objective.metric in point.valid
        ]
        if not values:
            continue
        drawn = True
        budgets = range(1, len(values) + 1)
        curve = [shown(objective.metric, expected_best(values, n, objective.direction)) for n in budgets]
        axes.plot(budgets, curve, color=colour, marker="o", ms=2.5, lw=1.4, label=arm)
    if not drawn:
        return None
    axes.set_xlabel("trials")
    axes.set_ylabel(f"expected best {label_of(objective)}")
    axes.legend(fontsize=8)
    axes.set_title(f"pruned trials count with their best score\n{note}", fontsize=7, color="#555555")
    return figure
