"""Rows below a table of tasks: one number over all of them, in each column.

Means are computed within a seed first (over the tasks), then summarised over the seeds, so their interval is as honest
as that of any other cell. Numbers over all scores at once (`over_tasks`) have an interval from resampled seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import get_args

from harness.config.table import Summary, TableSettings
from harness.config.trees import MISSING
from harness.errors import UserError
from harness.tables.columns import column_id, derived_cell
from harness.tables.comparisons import intervals_of
from harness.tables.model import Cell, Column, Row
from harness.tables.names import key_id, part_text
from harness.tables.over_tasks import Scores, improvement_cells, interquartile_cells
from harness.tables.pivot import Key, Pivot
from harness.tables.plans import ColumnPlan
from harness.tables.seed_scores import SeedScores, error_reduction, weighted_sum
from harness.tables.value_cells import ValueCells


def summary_rows(
    pivot: Pivot, plans: Sequence[ColumnPlan], values: ValueCells, settings: TableSettings, columns: Sequence[Column]
) -> list[Row]:
    """The rows that `summary` asks for.

    Raises:
        UserError: a weight is missing, or something is compared with a baseline that there is not.
    """
    scores = Scores(pivot, tuple(plans), values, settings)
    rows = []
    for name in settings.summary:
        label, make = SUMMARIES[name]
        cells = {column.id: Cell() for column in columns}
        for plan, made in zip(plans, make(scores), strict=True):
            for show in plan.entry.show:
                if show in ("value", "interval") or (show == "delta" and made.comparison is not None):
                    cells[column_id(pivot, plan, show)] = derived_cell(made, show)
        rows.append(Row(id=name, label=settings.labels.get(name, label), cells=cells, kind="summary"))
    return rows


def mean_weights(pivot: Pivot, settings: TableSettings) -> dict[str, list[float]]:
    """The weight of each row in the means that the summary asks for.

    Raises:
        UserError: the rows are arms, or a weight is missing.
    """
    if settings.summary and "arm" in pivot.rows:
        raise UserError("table.summary: the rows are arms, and a mean over arms means nothing; set rows: target")
    return {name: _weights(pivot, settings, name) for name in ("mean", "weighted_mean") if name in settings.summary}


def _mean_cells(scores: Scores, name: str) -> list[Cell]:
    return [scores.values.cells[name, place] for place in range(len(scores.plans))]


def _weights(pivot: Pivot, settings: TableSettings, mean: str) -> list[float]:
    """The weights of the rows in a mean: all alike or, weighted, from the settings or the numbers of examples."""
    if mean == "mean":
        return [1.0] * len(pivot.row_keys)
    found: dict[Key, float] = {}
    for key in pivot.row_keys:
        name = part_text(key[-1])
        if settings.weights is not None:
            if name not in settings.weights:
                raise UserError(f"table.weights: no weight for row {name!r}; given: {', '.join(settings.weights)}")
            found[key] = settings.weights[name]
            continue
        limits = {trial.coordinate("data.train_limit") for trial in pivot.row_trials(key) if trial.record is not None}
        if len(limits) != 1 or None in limits or MISSING in limits:
            raise UserError(
                f"table.weights: {key_id(pivot.rows, key)} has no single data.train_limit to weight it by; "
                "give weights: {ROW: NUMBER}"
            )
        found[key] = float(limits.pop())
    return list(found.values())


def _reduction_cells(scores: Scores, mean: str) -> list[Cell]:
    """The share of the baseline's mean error that an arm removes, in percent."""
    weights = _weights(scores.pivot, scores.settings, mean)
    shares = [weight / sum(weights) for weight in weights]
    found: dict[int, tuple[str, str, SeedScores]] = {}
    bases = [scores.baseline_of(place, "a relative reduction") for place in range(len(scores.plans))]
    for place, (plan, base) in enumerate(zip(scores.plans, bases, strict=True)):
        if base is not None:
            own, other = (weighted_sum(list(zip(shares, scores.scores(p), strict=True))) for p in (place, base))
            reduction = error_reduction(own, other, plan.metric)
            if reduction is not None:
                found[place] = str(plan.key), plan.name, reduction
    intervals = intervals_of(found, scores.settings.level)
    made = []
    for place, base in enumerate(bases):
        if base is None or place not in found:
            made.append(Cell() if base is None else Cell(num_planned=scores.num_planned(place)))
            continue
        own = found[place][2]
        refs, count = scores.refs([place, base], own.seeds), 1 if own.deterministic else len(own.seeds)
        planned = 1 if own.deterministic else scores.num_planned(place)
        made.append(Cell(own.mean, None, count, planned, intervals[place], trials=refs, item_error=own.item_error))
    return made


SUMMARIES: Mapping[str, tuple[str, Callable[[Scores], list[Cell]]]] = {
    "mean": ("mean", lambda scores: _mean_cells(scores, "mean")),
    "weighted_mean": ("weighted mean", lambda scores: _mean_cells(scores, "weighted_mean")),
    "relative_reduction": ("error reduction (%)", lambda scores: _reduction_cells(scores, "mean")),
    "weighted_relative_reduction": (
        "weighted error reduction (%)",
        lambda scores: _reduction_cells(scores, "weighted_mean"),
    ),
    "interquartile_mean": ("interquartile mean", interquartile_cells),
    "probability_of_improvement": ("probability of improvement (%)", improvement_cells),
}
assert tuple(SUMMARIES) == get_args(Summary)
