"""Footnotes with marks: what a row, a cell or a number over all rows lacks, said at the place that lacks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.config.table import TableSettings
from harness.records.launches import seeds_text
from harness.tables.columns import column_id
from harness.tables.load import LoadedTrial
from harness.tables.model import Footnote, Row, Table
from harness.tables.names import metric_header, part_label
from harness.tables.pivot import Pivot
from harness.tables.plans import ColumnPlan

Marks = Mapping[tuple[str, str], str]  # experiment and arm -> the mark of what is said of its unfinished trials


def mark_gaps(
    table: Table, trials: Sequence[LoadedTrial], pivot: Pivot, plans: Sequence[ColumnPlan], settings: TableSettings
) -> tuple[list[Footnote], tuple[Row, ...]]:
    """Notes on trials that are missing or failed and on summary cells with fewer seeds; the rows with their marks."""
    notes, marks = _unfinished_arms(trials)
    data, below = table.rows[: len(pivot.row_keys)], table.rows[len(pivot.row_keys) :]
    data = _marked_rows(data, pivot, marks) if "arm" in pivot.rows else _marked_cells(data, pivot, plans, marks)
    uneven, below = _uneven_summaries(below, pivot, plans, settings, len(notes))
    return [*notes, *uneven], (*data, *below)


def _unfinished_arms(trials: Sequence[LoadedTrial]) -> tuple[list[Footnote], Marks]:
    """A note for each arm with trials that are missing or failed; of an arm that is repeated, with the place."""
    several = len({trial.ref.experiment for trial in trials}) > 1
    by_arm: dict[tuple[str, str], list[LoadedTrial]] = {}
    for trial in trials:
        by_arm.setdefault((trial.ref.experiment, trial.ref.arm), []).append(trial)
    notes: list[Footnote] = []
    marks: dict[tuple[str, str], str] = {}
    for (experiment, arm), members in by_arm.items():
        states: dict[tuple[str, str], list[int]] = {}
        for trial in members:
            if not trial.complete:
                states.setdefault((trial.levels, trial.state), []).append(trial.ref.seed)
        if not states:
            continue
        parts = [(f"{where}, " if where else "", seeds, state) for (where, state), seeds in states.items()]
        what = "; ".join(f"{where}{seeds_text(seeds)} {state}" for where, seeds, state in parts)
        marks[experiment, arm] = mark = mark_of(len(notes))
        name = f"{experiment}/{arm}" if several else arm
        count = sum(trial.complete for trial in members)
        notes.append(Footnote(f"{name}: n = {count} of {len(members)}: {what}", mark, "missing"))
    return notes, marks


def _marks_of(trials: Sequence[LoadedTrial], marks: Marks) -> tuple[str, ...]:
    unfinished = {(trial.ref.experiment, trial.ref.arm) for trial in trials if not trial.complete}
    return tuple(mark for arm, mark in marks.items() if arm in unfinished)


def _marked_rows(rows: Sequence[Row], pivot: Pivot, marks: Marks) -> tuple[Row, ...]:
    return tuple(
        replace(row, footnotes=_marks_of(pivot.row_trials(key), marks))
        for row, key in zip(rows, pivot.row_keys, strict=True)
    )


def _marked_cells(rows: Sequence[Row], pivot: Pivot, plans: Sequence[ColumnPlan], marks: Marks) -> tuple[Row, ...]:
    """The rows with the marks at their cells, where arms are no rows."""
    marked = []
    for row, key in zip(rows, pivot.row_keys, strict=True):
        cells = dict(row.cells)
        for plan in plans:
            found = _marks_of(pivot.trials(key, plan.key), marks)
            place = _first_column(pivot, plan)
            cells[place] = replace(cells[place], footnotes=(*cells[place].footnotes, *found))
        marked.append(replace(row, cells=cells))
    return tuple(marked)


def _uneven_summaries(
    rows: Sequence[Row], pivot: Pivot, plans: Sequence[ColumnPlan], settings: TableSettings, num_marks: int
) -> tuple[list[Footnote], tuple[Row, ...]]:
    """A number over all rows stands on the seeds that every row has: say so where these are fewer than planned."""
    uneven: dict[tuple[int, int], list[tuple[Row, ColumnPlan]]] = {}  # seeds, planned seeds -> cells
    for row in rows:
        for plan in plans:
            cell = row.cells[_first_column(pivot, plan)]
            if cell.uneven:
                uneven.setdefault((cell.num_seeds, cell.num_planned), []).append((row, plan))
    notes: list[Footnote] = []
    cells = {row.id: dict(row.cells) for row in rows}
    for (seeds, planned), members in uneven.items():
        mark = mark_of(num_marks + len(notes))
        labels = dict.fromkeys(row.label for row, _ in members)
        columns = dict.fromkeys(_column_name(pivot, plan, settings) for _, plan in members)
        how = f"{seeds} of {planned} seeds, those with a value in every row"
        how = how if seeds else "no seed has a value in every row"
        notes.append(Footnote(f"{', '.join(labels)} of {', '.join(columns)}: {how}", mark, "uneven"))
        for row, plan in members:
            place = _first_column(pivot, plan)
            cells[row.id][place] = replace(row.cells[place], footnotes=(*row.cells[place].footnotes, mark))
    return notes, tuple(replace(row, cells=cells[row.id]) for row in rows)


def _first_column(pivot: Pivot, plan: ColumnPlan) -> str:
    return column_id(pivot, plan, plan.entry.show[0])


def _column_name(pivot: Pivot, plan: ColumnPlan, settings: TableSettings) -> str:
    """What a column stands under, as `a` or `a, size = 100`; of one that stands under nothing, the metric."""
    keys = zip(pivot.columns, plan.key, strict=True)
    under = ", ".join(part_label(name, part, settings.labels, named=True) for name, part in keys)
    return under or settings.labels.get(plan.name) or metric_header(plan.metric.concrete)


def mark_of(number: int) -> str:
    """a, b, ... z, aa, ab ..."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters
