"""Rows below a table of tasks: plain and weighted mean, and how much of the baseline's error is removed in the mean.

Each is computed within a seed first (the mean over the tasks), then summarised over the seeds, so its interval is as
honest as that of any other cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.config.table import TableSettings
from harness.config.trees import MISSING
from harness.errors import UserError
from harness.tables.cells import by_seed, cell_of_values, rank_cells, relative_reduction
from harness.tables.columns import column_id, derived_cell
from harness.tables.model import Cell, Column, Row
from harness.tables.names import key_id, part_text
from harness.tables.pivot import Key, Pivot
from harness.tables.plans import ColumnPlan
from harness.tables.value_cells import ValueCells

LABELS = {
    "mean": "mean",
    "weighted_mean": "weighted mean",
    "relative_reduction": "error reduction (%)",
    "weighted_relative_reduction": "weighted error reduction (%)",
}


def summary_rows(
    pivot: Pivot, plans: Sequence[ColumnPlan], values: ValueCells, settings: TableSettings, columns: Sequence[Column]
) -> list[Row]:
    """The rows that `summary` asks for.

    Raises:
        UserError: the rows are arms, a weight is missing, or a reduction has no baseline.
    """
    if not settings.summary:
        return []
    if "arm" in pivot.rows:
        raise UserError("table.summary: the rows are arms, and a mean over arms means nothing; set rows: target")
    rows = []
    for name in settings.summary:
        weights = _weights(pivot, settings) if name.startswith("weighted") else dict.fromkeys(pivot.row_keys, 1.0)
        means = [_mean_by_seed(place, pivot, values, weights) for place in range(len(plans))]
        if name.endswith("reduction"):
            made = [_reduction(place, pivot, plans, means, values, settings) for place in range(len(plans))]
        else:
            made = [_summarise(place, pivot, values, means[place], settings) for place in range(len(plans))]
            made = _ranked(made, pivot, plans)
        cells = {column.id: Cell() for column in columns}
        for place, plan in enumerate(plans):
            for show in plan.entry.show:
                companion = derived_cell(made[place], show) if show in ("value", "interval") else Cell()
                cells[column_id(pivot, plan, show)] = companion
        rows.append(Row(id=name, label=settings.labels.get(name, LABELS[name]), cells=cells, kind="summary"))
    return rows


def _weights(pivot: Pivot, settings: TableSettings) -> dict[Key, float]:
    """Row -> weight: what the spec says, or the number of training examples."""
    found: dict[Key, float] = {}
    for key in pivot.row_keys:
        name = part_text(key[-1])
        if settings.weights is not None:
            if name not in settings.weights:
                raise UserError(f"table.weights: none for row {name!r}; given: {', '.join(settings.weights)}")
            found[key] = settings.weights[name]
            continue
        limits = {trial.coordinate("data.train_limit") for trial in pivot.row_trials(key) if trial.record is not None}
        if len(limits) != 1 or None in limits or MISSING in limits:
            raise UserError(
                f"table.weights: {key_id(pivot.rows, key)} has no single data.train_limit to weight it by; "
                "give weights: {ROW: NUMBER}"
            )
        found[key] = float(limits.pop())
    return found


def _mean_by_seed(place: int, pivot: Pivot, values: ValueCells, weights: Mapping[Key, float]) -> dict[int, float]:
    """Seed -> mean over the rows; empty where a row has nothing, for a mean over fewer tasks is another number."""
    rows = [by_seed(values.cells[number, place]) for number in range(len(pivot.row_keys))]
    shared = set.intersection(*(set(row) for row in rows))
    weight = [weights[key] for key in pivot.row_keys]
    return {
        seed: sum(w * row[seed] for w, row in zip(weight, rows, strict=True)) / sum(weight) for seed in sorted(shared)
    }


def _summarise(
    place: int, pivot: Pivot, values: ValueCells, means: Mapping[int, float], settings: TableSettings
) -> Cell:
    above = [values.cells[number, place] for number in range(len(pivot.row_keys))]
    planned = max((cell.num_planned for cell in above), default=0)
    refs = [ref for cell in above for ref in cell.trials if ref.seed in means]
    return cell_of_values(refs, list(means.values()), planned, settings.level)


def _ranked(made: list[Cell], pivot: Pivot, plans: Sequence[ColumnPlan]) -> list[Cell]:
    """Rank a summary row as the rows above it: among the arms, metric by metric."""
    if "arm" not in pivot.columns:
        return made
    where = pivot.columns.index("arm")
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, plan in enumerate(plans):
        if plan.metric.scored:
            groups.setdefault((plan.name, *(p for n, p in enumerate(plan.key) if n != where)), []).append(place)
    for places in groups.values():
        plan = plans[places[0]]
        ranked = rank_cells([made[place] for place in places], plan.metric.metric.direction, plan.decimals)
        for place, cell in zip(places, ranked, strict=True):
            made[place] = cell
    return made


def _reduction(
    place: int,
    pivot: Pivot,
    plans: Sequence[ColumnPlan],
    means: Sequence[Mapping[int, float]],
    values: ValueCells,
    settings: TableSettings,
) -> Cell:
    """The share of the baseline's mean error that an arm removes, in percent."""
    if settings.baseline is None or "arm" not in pivot.columns:
        raise UserError("table.summary: a relative reduction needs arms as columns and a baseline")
    where = pivot.columns.index("arm")
    plan = plans[place]
    key = (*plan.key[:where], settings.baseline, *plan.key[where + 1 :])
    base = next((n for n, other in enumerate(plans) if other.key == key and other.name == plan.name), None)
    planned = max(values.cells[number, place].num_planned for number in range(len(pivot.row_keys)))
    if base is None or base == place:
        return Cell()
    shared = sorted(means[place].keys() & means[base].keys())
    own = [plan.metric.error(means[place][seed]) for seed in shared]
    other = [plan.metric.error(means[base][seed]) for seed in shared]
    if not shared or None in own or None in other or sum(other) == 0:  # type: ignore[arg-type]
        return Cell(num_planned=planned)
    reduction, interval = relative_reduction(own, other, settings.level)  # type: ignore[arg-type]
    rows = range(len(pivot.row_keys))
    refs = tuple(r for p in (place, base) for n in rows for r in values.cells[n, p].trials if r.seed in shared)
    return Cell(reduction, None, len(shared), planned, interval, trials=refs)
