"""Lay out the columns of a table (metrics, differences, settings, number of seeds) and fill each row's cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.config.table import Show, TableSettings
from harness.config.trees import MISSING
from harness.metrics import Direction, scored_metric
from harness.tables.load import DIMENSIONS
from harness.tables.model import Cell, Column
from harness.tables.names import dimension_header, key_id, metric_header, part_label, part_text
from harness.tables.pivot import Key, Pivot
from harness.tables.plans import ColumnPlan
from harness.tables.seed_scores import SeedScores
from harness.tables.value_cells import RowCount, ValueCells


def expand_columns(
    pivot: Pivot, plans: Sequence[ColumnPlan], values: ValueCells, settings: TableSettings
) -> list[Column]:
    """All columns in order: settings, number of seeds, then each plan's."""
    columns = [
        Column(key, settings.labels.get(key, dimension_header(key)), kind="setting", decimals=None)
        for key in settings.settings
    ]
    if settings.count == "always" or (settings.count == "auto" and "arm" in pivot.rows and values.rows_are_uneven):
        columns.append(Column("n", "n", kind="count", decimals=0))
    alone = len({(plan.name, plan.entry.show) for plan in plans}) == 1 and plans[0].entry.show == ("value",)
    for plan in plans:
        columns += [_column(pivot, plan, show, settings, alone=alone) for show in plan.entry.show]
    return columns


def _column(pivot: Pivot, plan: ColumnPlan, show: Show, settings: TableSettings, *, alone: bool) -> Column:
    labels = [
        part_label(name, part, settings.labels, named=True) for name, part in zip(pivot.columns, plan.key, strict=True)
    ]
    title = plan.entry.header or settings.labels.get(plan.name) or metric_header(plan.metric.concrete)
    metric = plan.metric.metric
    direction: Direction | None = metric.direction if plan.metric.scored else None
    column = Column(
        id=column_id(pivot, plan, show),
        header=title,
        kind=show,
        metric=plan.metric.concrete,
        unit=metric.unit,
        direction=direction,
        decimals=plan.decimals,
        arm=str(plan.key[pivot.columns.index("arm")]) if "arm" in pivot.columns else None,
    )
    if labels and alone:  # one metric for all columns: it stands above them
        if len(pivot.columns) == 1:
            last = part_label(pivot.columns[-1], plan.key[-1], settings.labels, named=False)
            over = (column.title, settings.labels.get(pivot.columns[0], dimension_header(pivot.columns[0])))
            shown = over[:1] if pivot.columns[0] in DIMENSIONS else over
            return replace(column, header=last, groups=shown, bare=True)
        return replace(column, header=labels[-1], groups=(column.title, *labels[:-1]), bare=True)
    if plan.entry.show == ("value",):
        return replace(column, groups=tuple(labels))
    header, unit, direction = _show_header(show, column, settings)
    return replace(column, groups=(*labels, title), header=header, unit=unit, direction=direction)


def _show_header(show: Show, column: Column, settings: TableSettings) -> tuple[str, str, Direction | None]:
    """The lowest header of a value's companions, with its unit and direction."""
    if show == "value":
        return "mean", column.unit, column.direction
    if show == "delta":
        unit = "points" if column.unit in ("%", "points") else column.unit
        return "Δ", unit, column.direction
    if show == "relative":
        scored = scored_metric(column.metric or "")
        return scored.reduction if scored is not None else "error reduction", "%", "higher"
    if show == "interval":
        return f"{100 * settings.level:g} % interval", column.unit, None
    return "adjusted p", "", None


def column_id(pivot: Pivot, plan: ColumnPlan, show: Show) -> str:
    """`target_cer`, `target_cer:delta`; under a column key `frozen/target_cer`."""
    where = key_id(pivot.columns, plan.key)
    bare = f"{where}/{plan.name}" if where else plan.name
    return bare if show == "value" else f"{bare}:{show}"


def row_cells(
    number: int,
    pivot: Pivot,
    plans: Sequence[ColumnPlan],
    values: ValueCells,
    settings: TableSettings,
    columns: Sequence[Column],
) -> dict[str, Cell]:
    """A row's cells by column id."""
    key = pivot.row_keys[number]
    cells: dict[str, Cell] = {}
    for setting in settings.settings:
        cells[setting] = _setting_cell(pivot, key, setting)
    if any(column.id == "n" for column in columns):
        count = values.row_counts[number] or RowCount()
        several = count.finished == count.planned < count.most  # all are finished, but not every cell has as many
        text = f"{count.finished}-{count.most}" if several else None
        cells["n"] = Cell(float(count.finished), None, count.finished, count.planned, text=text)
    for place, plan in enumerate(plans):
        cell = values.cells[number, place]
        for show in plan.entry.show:
            removed = values.reductions.get((number, place))
            cells[column_id(pivot, plan, show)] = derived_cell(cell, show, removed)
    return cells


def derived_cell(cell: Cell, show: Show, removed: SeedScores | None = None) -> Cell:
    """What a companion column shows of a value's cell: the difference, the reduction, the interval, the p.

    A difference has its own interval, number of seeds and error over items, and none of the value's.

    Args:
        removed: the error reduction behind the cell's comparison, where there is one.
    """
    if show == "value":
        return cell
    bare = replace(cell, value=None, sd=None, interval=None, rank=None, comparison=None, values=(), footnotes=())
    comparison = cell.comparison
    if show == "interval":
        return replace(bare, interval=cell.interval, value=cell.value)
    if comparison is None:
        return Cell(num_planned=cell.num_planned)
    pairs = comparison.num_pairs
    bare = replace(bare, num_seeds=pairs, num_planned=max(pairs, cell.num_planned), deterministic=False)
    bare = replace(bare, item_error=comparison.item_error)
    if show == "delta":
        return replace(bare, value=comparison.difference, interval=comparison.interval, comparison=comparison)
    if show == "relative":
        error = None if removed is None else removed.item_error
        relative, interval = comparison.relative, comparison.relative_interval
        return replace(bare, value=relative, interval=interval, comparison=comparison, item_error=error)
    return replace(bare, value=comparison.p_adjusted)


def _setting_cell(pivot: Pivot, key: Key, setting: str) -> Cell:
    found = {}
    for trial in pivot.row_trials(key):
        if trial.record is not None:
            unused = setting.startswith("optim.") and trial.record.config.get("train") == "none"
            value = MISSING if unused else trial.coordinate(setting)
            found[part_text(value) if value is not MISSING else "–"] = value
    if len(found) != 1:
        return Cell(text="varies" if found else None)
    text, value = next(iter(found.items()))
    number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    return Cell(value=number, text=text)
