"""Measure and draw how much each searched setting of each arm matters, with `optuna.importance`.

PED-ANOVA: Watanabe et al. 2023, arXiv 2304.10255: how much a setting decides whether a trial is among the best.
It looks at complete trials only; trials that were pruned are missing from it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from harness.figures.labels import axis_labels, metric_label
from harness.figures.scales import has_value
from harness.figures.scores import all_arms, arm_axes, objective_at, points_in
from harness.figures.style import WIDTH, add_legend, add_note, arm_looks, new_figure, say, styled, words_of
from harness.records.search import Axis, SearchPoint, SearchResult, Value

MIN_POINTS = 6  # complete trials, below which an importance is noise
MIN_BEST = 5  # trials that PED-ANOVA should have among "the best" (optuna's advice)


@dataclass(frozen=True)
class Measured:
    """An arm's importances (they add up to 1), or why there are none."""

    shares: dict[str, float] | None
    num_points: int
    reason: str = ""


def measure(result: SearchResult, arm: str, objective: int = 0) -> Measured:
    """Each axis's share of the importance, most important first; or the reason why there is none.

    There is none for fewer than `MIN_POINTS` complete trials, a single axis, or scores that do not differ. A linear
    axis is a FloatDistribution, a logarithmic one a logarithmic FloatDistribution, a categorical one a
    CategoricalDistribution. `zero_or_log` is a FloatDistribution over log10(value); zero sits a decade below `low`.

    Raises:
        UserError: no such arm or objective.
    """
    axes, direction = arm_axes(result, arm), objective_at(result, objective).direction
    points = [p for p in points_in(result, arm, "complete") if all(has_value(axis, p) for axis in axes)]
    num, scores = len(points), [point.values[objective] for point in points]
    if len(axes) < 2:
        return Measured(None, num, "nothing searched" if not axes else "a single setting searched, nothing to compare")
    if num < MIN_POINTS:
        return Measured(None, num, f"{num} complete {'trial' if num == 1 else 'trials'}, at least {MIN_POINTS} needed")
    if min(scores) == max(scores):
        return Measured(None, num, f"all {num} scores are the same")
    losses = scores if direction == "minimize" else [-score for score in scores]
    shares = _evaluate(axes, points, losses)
    if shares is None:
        return Measured(None, num, "the scores do not tell the settings apart")
    return Measured(dict(sorted(shares.items(), key=lambda item: -item[1])), num)


def _evaluate(axes: Sequence[Axis], points: Sequence[SearchPoint], losses: Sequence[float]) -> dict[str, float] | None:
    drawn = {axis.key: [drawn_value(axis, point.params[axis.key]) for point in points] for axis in axes}
    spaces = {axis.key: _distribution(axis, drawn[axis.key]) for axis in axes}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        study = _study(spaces, drawn, losses)
        share = min(0.5, max(0.1, MIN_BEST / len(points)))  # a tenth of 20 trials would be two
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=share)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    if any("will be equal" in str(warning.message) for warning in caught):  # optuna's word for "cannot be computed"
        return None
    return {axis.key: float(shares.get(axis.key, 0.0)) for axis in axes}


def _study(spaces: dict[str, BaseDistribution], drawn: dict[str, list[Any]], losses: Sequence[float]) -> optuna.Study:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="minimize")
        for place, loss in enumerate(losses):
            params = {key: values[place] for key, values in drawn.items()}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, value=loss))
    finally:
        optuna.logging.set_verbosity(verbosity)
    return study


def drawn_value(axis: Axis, value: Value) -> Any:
    """The value in its distribution's own coordinates: see `measure`."""
    if axis.kind == "categorical":
        return value
    assert isinstance(value, (int, float)), value
    if axis.kind != "zero_or_log":
        return float(value)
    assert axis.low is not None, axis
    return math.log10(value) if value > 0 else math.log10(axis.low) - 1


def _distribution(axis: Axis, drawn: Sequence[Any]) -> BaseDistribution:
    """The axis's distribution, wide enough for every drawn value (a start set by hand may lie outside the range)."""
    if axis.kind == "categorical":
        return CategoricalDistribution(tuple(dict.fromkeys([*axis.choices, *drawn])))
    ends = [drawn_value(axis, end) for end in (axis.low, axis.high) if end is not None]
    if axis.kind == "zero_or_log":
        ends.append(drawn_value(axis, 0.0))
    return FloatDistribution(min(*ends, *drawn), max(*ends, *drawn), log=axis.kind == "log")


@styled
def draw_importance(result: SearchResult, objective: int = 0) -> Figure:
    """Bars of all arms side by side, one group an axis; the arms without importances are named below, with the reason.

    Raises:
        UserError: as `measure`.
    """
    arms = all_arms(result)
    measured = {arm: measure(result, arm, objective) for arm in arms}
    drawn = {arm: m.shares for arm, m in measured.items() if m.shares is not None}
    labels = {arm: axis_labels(arm_axes(result, arm)) for arm in drawn}
    groups: dict[str, dict[str, float]] = {}
    for arm, shares in drawn.items():
        for key, share in shares.items():
            groups.setdefault(labels[arm][key], {})[arm] = share
    order = sorted(groups, key=lambda label: (sum(groups[label].values()) / len(groups[label]), label))
    num_bars = sum(len(bars) for bars in groups.values())
    figure = new_figure(WIDTH, max(2.2, 1.5 + 0.2 * num_bars + 0.15 * (len(arms) - len(drawn))))
    axes = figure.subplots()
    notes = [f"{words_of(arm)}: {m.reason}" for arm, m in measured.items() if m.shares is None]
    if not drawn:
        say(axes, "No importances.\n\n" + "\n".join(notes))
        return figure
    looks, place = arm_looks(arms), 0.0
    ticks = []
    for label in order:
        bars = [arm for arm in reversed(arms) if arm in groups[label]]
        for offset, arm in enumerate(bars):
            share = groups[label][arm]
            axes.barh(place + offset, share, height=0.85, color=looks[arm][0])
            axes.text(share + 0.008, place + offset, f"{share:.2f}", va="center", fontsize=7.5)
        ticks.append(place + (len(bars) - 1) / 2)
        place += len(bars) + 0.7
    axes.set_yticks(ticks, order)
    axes.tick_params("y", length=0)
    axes.set_xlim(0, min(1.1, max(max(shares.values()) for shares in drawn.values()) * 1.12))
    axes.grid(axis="x")
    axes.set_xlabel("share of importance (PED-ANOVA)")
    axes.set_title(f"What decides {metric_label(objective_at(result, objective)).full}", loc="left")
    for arm in drawn:
        trials = measured[arm].num_points
        axes.barh(0, 0, color=looks[arm][0], label=f"{words_of(arm)} ({trials} complete trials)")
    add_legend(figure, "outside upper left")
    if notes:
        add_note(figure, "Without importances: " + "\n".join(notes))
    return figure
