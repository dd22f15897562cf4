"""Which searched setting matters: PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255) or fANOVA (Hutter et al. 2014)."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import optuna
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

from harness.errors import UserError
from harness.figures.style import COLOURS, completes, coordinate, new_figure
from harness.sweep.points import Axis, SearchResult

MIN_POINTS = 6
Method = Literal["ped_anova", "fanova"]


def importances(
    result: SearchResult, arm: str, method: Method = "ped_anova", objective: int = 0
) -> dict[str, float] | None:
    """Importance of each of an arm's searched settings; they sum to one.

    The evaluators see the drawn coordinates: logarithms of logarithmic axes, a zero of `zero_or_log` one decade below
    its lowest value. None when there is nothing to compare: one setting, fewer than six complete trials, one score.

    Raises:
        UserError: fANOVA is asked for without scikit-learn.
    """
    points, axes = completes(result, arm), result.axes[arm]
    if len(points) < MIN_POINTS or len(axes) < 2 or len({point.values[objective] for point in points}) < 2:
        return None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=result.objectives[objective].direction)
    spaces = {axis.key: _distribution(axis) for axis in axes}
    for point in points:
        params: dict[str, Any] = {
            axis.key: point.params[axis.key] if axis.kind == "categorical" else coordinate(axis, point.params[axis.key])
            for axis in axes
        }
        study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, value=point.values[objective]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental, and too few points in a region: the figure names the number
        try:
            evaluator = FanovaImportanceEvaluator(seed=0) if method == "fanova" else PedAnovaImportanceEvaluator()
        except ImportError as error:
            raise UserError("fANOVA needs scikit-learn: pip install scikit-learn") from error
        found = get_param_importances(study, evaluator=evaluator)
    return {axis.key: float(found.get(axis.key, 0.0)) for axis in axes}


def _distribution(axis: Axis) -> BaseDistribution:
    if axis.kind == "categorical":
        return CategoricalDistribution(axis.choices)
    low = coordinate(axis, 0.0 if axis.kind == "zero_or_log" else axis.low)
    return FloatDistribution(low, coordinate(axis, axis.high))


def draw(result: SearchResult, method: Method = "ped_anova") -> Figure | None:
    """Bars, a panel an arm that searches several settings."""
    arms = [arm for arm, axes in result.axes.items() if len(axes) > 1]
    if not arms:
        return None
    figure, (row,) = new_figure(3.2 * len(arms), 2.2, 1, len(arms))
    for axes, arm in zip(row, arms, strict=True):
        found = importances(result, arm, method)
        axes.set_title(f"{arm}\n{len(completes(result, arm))} complete trials")
        if found is None:
            axes.text(0.5, 0.5, "too few complete trials", ha="center", va="center", transform=axes.transAxes)
            axes.set_axis_off()
            continue
        ordered = sorted(found.items(), key=lambda item: item[1])
        axes.barh([key.rsplit(".", 1)[-1] for key, _ in ordered], [value for _, value in ordered], color=COLOURS[0])
        axes.set_xlim(0, 1)
        axes.set_xlabel("importance (PED-ANOVA)" if method == "ped_anova" else "importance (fANOVA)")
    return figure
