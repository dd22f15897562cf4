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
from harness.tables.cells import relative_reduction
from harness.tables.columns import column_id, derived_cell
from harness.tables.model import Cell, Column, Row
from harness.tables.names import key_id, part_text
from harness.tables.over_tasks import Scores, improvement_cells, interquartile_cells
from harness.tables.pivot import Key, Pivot
from harness.tables.plans import ColumnPlan
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


def _means(scores: Scores, mean: str) -> list[dict[int, float]]:
    """For each column: seed -> mean over the rows. A seed that some row lacks is left out."""
    weights = _weights(scores.pivot, scores.settings, mean)
    means = []
    for place in range(len(scores.plans)):
        seeds, matrix = scores.matrix(place)
        each = (sum(w * score for w, score in zip(weights, line, strict=True)) / sum(weights) for line in matrix)
        means.append(dict(zip(seeds, each, strict=True)))
    return means


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
    made = []
    means = _means(scores, mean)
    for place, plan in enumerate(scores.plans):
        base = scores.baseline_of(place, "a relative reduction")
        if base is None:
            made.append(Cell())
            continue
        shared = sorted(means[place].keys() & means[base].keys())
        own = [plan.metric.error(means[place][seed]) for seed in shared]
        other = [plan.metric.error(means[base][seed]) for seed in shared]
        planned = scores.num_planned(place)
        if not shared or None in own or None in other or sum(other) == 0:  # type: ignore[arg-type]
            made.append(Cell(num_planned=planned))
            continue
        reduction, interval = relative_reduction(own, other, scores.settings.level)  # type: ignore[arg-type]
        refs = scores.refs([place, base], shared)
        made.append(Cell(reduction, None, len(shared), planned, interval, trials=refs))
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
