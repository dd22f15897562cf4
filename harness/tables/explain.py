"""The trials behind a cell: `harness table NAME --explain ROW COLUMN`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.config.rows import RowId, find_rows
from harness.errors import UserError, must_be_in
from harness.records.schema import Record
from harness.records.store import MANIFEST, RecordStore
from harness.records.trial_folder import TrialFolder
from harness.tables.cells import resolve_metric
from harness.tables.load import LoadedTrial, state_text
from harness.tables.model import Cell, Column, Row, Table, TrialRef


@dataclass(frozen=True)
class Run:
    """A trial behind a cell, or a planned trial that gives the cell no value.

    Attributes:
        value: its contribution to the cell, in the column's unit (to a difference or a reduction: what the metric is
            for the trial itself); None where it contributes nothing.
        state: `complete`, `failed (nan)`, `missing`, ...
        commit: of the code, with a mark when it had uncommitted changes; `unknown` outside a checkout.
        place: where its record is: a folder, or the file and line of a published one.
    """

    trial: TrialRef
    value: float | None
    state: str
    commit: str
    place: str


@dataclass(frozen=True)
class Explanation:
    """A cell and the runs behind it."""

    row: Row
    column: Column
    cell: Cell
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run | None:
        """The first run with a value, as an example of one to repeat."""
        return next((run for run in self.runs if run.value is not None), None)


def explain(table: Table, row: str, column: str, results: Path) -> Explanation:
    """The runs behind a cell.

    Args:
        row, column: as for `find_cell`.

    Raises:
        UserError: no such row or column (the choices are named), or no trial is behind the cell (a setting, say).
    """
    found_row, found_column, cell = find_cell(table, row, column, rows_of(table, results))
    runs = [_run(results, trial, found_column, value) for trial, value in _values(table, found_column, cell)]
    absent = _absent(table, found_row, found_column, cell, results)
    runs += [replace(_run(results, trial, found_column, None), value=None) for trial in absent]
    if not runs:
        kind = "a setting" if found_column.kind == "setting" else f"of kind {found_column.kind}"
        raise UserError(f"cell {found_row.id} x {found_column.id} is {kind}; no trial stands behind such a cell")
    return Explanation(found_row, found_column, cell, tuple(sorted(runs, key=lambda run: _order(table, run))))


def rows_of(table: Table, results: Path) -> tuple[RowId, ...]:
    """What the rows of a table's experiments are, each once; none of a sweep without winners."""
    stores = (RecordStore(results, name) for name in table.experiments)
    known = (row for store in stores if (store.path / MANIFEST).exists() for row in store.manifest().row_ids)
    return tuple(dict.fromkeys(known))


def find_cell(table: Table, row: str, column: str, rows: Sequence[RowId] = ()) -> tuple[Row, Column, Cell]:
    """A cell by the ids of its row and column, or by its label and header as the table shows them.

    Args:
        rows: what the rows of its experiments are (`rows_of`), so that an arm, and `ARM (RULE)`, means its row as well.

    Raises:
        UserError: no such row or column, or the name is that of several; the choices are named.
    """
    meant = {name: find_rows(name, rows) for one in rows for name in {one.name, *one.other_names}}
    names: dict[str, tuple[str, ...]] = {item.id: (item.label,) for item in table.rows}
    for name, found in meant.items():
        for id in found:
            if id in names:
                names[id] = (*names[id], name)
    found_row = table.row(find_id(row, names.items(), "row", table))
    columns = ((item.id, (item.header, item.title, item.metric or "")) for item in table.columns)
    found_column = table.column(find_id(column, columns, "column", table))
    return found_row, found_column, found_row.cells[found_column.id]


def _values(table: Table, column: Column, cell: Cell) -> list[tuple[TrialRef, float | None]]:
    """The cell's trials with their values. A cell computed from other cells takes the values that trials have there."""
    if len(cell.values) == len(cell.trials):
        return list(zip(cell.trials, cell.values, strict=True))
    own = {
        trial: value
        for row, other, found in table
        if row.kind == "data" and (other.kind, other.metric) == ("value", column.metric)
        for trial, value in zip(found.trials, found.values, strict=True)
    }
    return [(trial, own.get(trial)) for trial in cell.trials]


def find_id(asked: str, known: Iterable[tuple[str, tuple[str, ...]]], what: str, table: Table) -> str:
    """The id that a name means: the id itself, or another name (a label or header) that only one of them has.

    Raises:
        UserError: there is none, or the name is that of several.
    """
    names = dict(known)
    if asked in names:
        return asked
    wanted = _plain(asked)
    matches = [id for id, others in names.items() if wanted in {_plain(id), *map(_plain, others)}]
    if len(matches) > 1:
        raise UserError(f"table {table.name}: {what} {asked!r} is ambiguous; choices: {', '.join(matches)}")
    if not matches:
        must_be_in(asked, names, f"table {table.name}: no {what} {asked!r}")
    return matches[0]


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _order(table: Table, run: Run) -> tuple[int, int]:
    return table.experiments.index(
        run.trial.experiment
    ) if run.trial.experiment in table.experiments else 0, run.trial.seed


def _absent(table: Table, row: Row, column: Column, cell: Cell, results: Path) -> list[TrialRef]:
    """Planned trials of the cell's arm that contribute no value: failed, missing, or without the metric."""
    if column.kind == "setting" or (not cell.trials and len(table.experiments) != 1):
        return []
    pairs = dict.fromkeys((trial.experiment, trial.arm, trial.phase) for trial in cell.trials)
    if not pairs:
        pairs = {(table.experiments[0], column.arm or row.id, "confirm"): None}
    present = {trial.trial_id for trial in cell.trials}
    absent = []
    for experiment, arm, phase in pairs:
        if phase == "confirm":
            seeds = RecordStore(results, experiment).manifest().arms.get(arm, {})
            absent += [TrialRef(experiment, arm, s, i) for s, i in seeds.items() if i not in present]
    return absent


def _run(results: Path, trial: TrialRef, column: Column, value: float | None) -> Run:
    """A trial; without a value from the table, with what its record has of the column's metric."""
    base = results / trial.experiment / ("search" if trial.phase == "search" else "records")
    folder = TrialFolder(base / trial.trial_id)
    record = folder.record()
    found = _recorded(trial, record, column) if value is None else value
    lacks = record is not None and record.summary.state == "complete" and column.metric is not None and found is None
    state = state_text(record) + (", has no such metric" if lacks else "")
    return Run(trial, found, state, _commit(record), folder.place)


def _recorded(trial: TrialRef, record: Record | None, column: Column) -> float | None:
    """The column's metric in a record, in the table's unit."""
    if column.metric is None:
        return None
    value = LoadedTrial(trial, record).metric(column.metric)
    return None if value is None else value * resolve_metric(column.metric, (), "explain").scale


def _commit(record: Record | None) -> str:
    if record is None or record.provenance is None or record.provenance.git_commit is None:
        return "unknown"
    return record.provenance.git_commit[:12] + (" + changes" if record.provenance.git_dirty else "")
