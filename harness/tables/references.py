"""Show a paper's numbers beside ours, with the difference and whether the two can be told apart.

The numbers are data (papers/*.yaml), each file with its source; every number was checked against its paper. A paper's
number stands beside the same metric alone: accuracy says nothing of a macro F1, nor a CER of a WER.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from pydantic import Field

from harness.config.base import Settings
from harness.config.messages import validated
from harness.config.table import ReferenceSettings, TableSettings
from harness.config.yaml import read_yaml
from harness.errors import UserError, must_be_in
from harness.metrics import METRICS, metric_words, split_name
from harness.tables.format import format_number
from harness.tables.model import Cell, Column, Footnote, Row, Table

FOLDER = Path(__file__).parent / "papers"


class PaperNumbers(Settings):
    """A paper's table, or a part of it: row -> one number a column.

    `metric` says in words what the numbers are; `score` is the metric of `METRICS` that they are values of, or, with
    `reduction`, relative reductions of (in percent of a baseline's error).
    """

    source: str
    metric: str
    score: str
    reduction: bool = False
    unit: str
    direction: str
    columns: tuple[str, ...] = Field(min_length=1)
    rows: dict[str, tuple[float, ...]] = Field(min_length=1)

    @property
    def what(self) -> str:
        """What the numbers are: `accuracy`, `relative reduction of WER`."""
        return _words(self.score, self.reduction)


@dataclass(frozen=True)
class Paper:
    """A paper's numbers, and the name of its file."""

    name: str
    numbers: PaperNumbers

    def value(self, row: str, column: str) -> float:
        """One number, in the paper's unit."""
        return self.numbers.rows[row][self.numbers.columns.index(column)]


def paper_names() -> list[str]:
    """The papers whose numbers are here."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def load_paper(name: str) -> Paper:
    """A paper's numbers by name.

    Raises:
        UserError: there is no such paper, or its file is wrong.
    """
    must_be_in(name, paper_names(), f"table.reference.paper: no numbers of {name!r}")
    path = FOLDER / f"{name}.yaml"
    numbers = validated(PaperNumbers, read_yaml(path), str(path))
    must_be_in(numbers.score, METRICS, f"{path}: score: no metric {numbers.score!r}")
    for row, values in numbers.rows.items():
        if len(values) != len(numbers.columns):
            raise UserError(f"{path}: rows.{row}: {len(values)} numbers for {len(numbers.columns)} columns")
    return Paper(name, numbers)


def add_reference(table: Table, settings: TableSettings) -> Table:
    """Add `paper`, `difference`, `interval` and `verdict` after each column that the settings map to a paper's.

    Raises:
        UserError: the spec maps a row or column that is not there, or compares different units.
    """
    reference = settings.reference
    if reference is None:
        return table
    paper = load_paper(reference.paper)
    rows = _checked_rows(table, reference, paper)
    mapped = _checked_columns(table, reference, paper)
    columns: list[Column] = []
    cells: dict[str, dict[str, Cell]] = {row.id: dict(row.cells) for row in table.rows}
    for column in table.columns:
        if column.id not in mapped:
            columns.append(column)
            continue
        columns += _columns(column)
        for row in table.rows:
            paper_row = rows.get(row.id)
            if paper_row is not None:
                _check_same_metric(row, column, paper)
            number = None if paper_row is None else paper.value(paper_row, mapped[column.id])
            cells[row.id] |= _cells(row.cells[column.id], column, number)
    if reference.show == "rows":
        return _as_rows(table, reference, paper, mapped)
    note = _note(paper)
    return replace(
        table,
        columns=tuple(columns),
        rows=tuple(replace(row, cells=cells[row.id]) for row in table.rows),
        footnotes=(*table.footnotes, note),
    )


def _note(paper: Paper) -> Footnote:
    return Footnote(
        f"paper: {paper.numbers.source}; {paper.numbers.metric}; not distinguishable: the paper's number lies in our "
        "interval, whose half width is given (the paper's own error is not known); other data and models, so this "
        "compares findings and not systems",
        kind="reference",
    )


def _as_rows(table: Table, reference: ReferenceSettings, paper: Paper, mapped: Mapping[str, str]) -> Table:
    """A table with one row for each mapped cell: paper, ours, difference, interval and verdict."""
    first = table.column(next(iter(mapped)))
    columns = [replace(column, groups=(), arm=None) for column in _columns(first)]
    names = [part.id.removeprefix(first.id) for part in columns]
    columns = [replace(part, id=name.lstrip(":") or "ours") for part, name in zip(columns, names, strict=True)]
    rows = []
    for row_id, paper_row in reference.rows.items():
        row = table.row(row_id)
        for column_id, paper_column in mapped.items():
            column = table.column(column_id)
            number = paper.value(paper_row, paper_column)
            cells = {**_cells(row.cells[column_id], column, number), column_id: row.cells[column_id]}
            by_part = {name: cells[f"{column_id}{name}"] for name in names}
            shown = {part.id: by_part[name] for part, name in zip(columns, names, strict=True)}
            header = column.header if column.arm is None else column.arm
            label = f"{header} ({paper_column} in the paper)" if header != paper_column else header
            rows.append(Row(f"{row_id}/{column_id}", label, shown, group=f"{row.label} ({paper_row} in the paper)"))
    notes = (*table.footnotes, _note(paper))
    return replace(table, columns=tuple(columns), rows=tuple(rows), corner="cell", footnotes=notes)


def _checked_rows(table: Table, reference: ReferenceSettings, paper: Paper) -> Mapping[str, str]:
    known = [row.id for row in table.rows]
    for ours, theirs in reference.rows.items():
        must_be_in(ours, known, f"table.reference.rows: no row {ours!r}")
        must_be_in(theirs, list(paper.numbers.rows), f"table.reference.rows.{ours}: {paper.name} has no row {theirs!r}")
    return reference.rows


def _checked_columns(table: Table, reference: ReferenceSettings, paper: Paper) -> dict[str, str]:
    """Column id -> the paper's column; ours may be named by the column's id, arm or header."""
    mapped: dict[str, str] = {}
    values = [column for column in table.columns if column.kind in ("value", "relative")]
    for ours, theirs in reference.columns.items():
        where = f"table.reference.columns.{ours}"
        must_be_in(theirs, paper.numbers.columns, f"{where}: {paper.name} has no column {theirs!r}")
        found = [column for column in values if ours in (column.id, column.arm, column.header)]
        choices = [column.arm or column.id for column in values]
        if not found:
            must_be_in(ours, choices, f"table.reference.columns: no column {ours!r}")
        for column in found:
            if column.unit != paper.numbers.unit:
                raise UserError(f"{where}: our numbers are in {column.unit!r}, the paper's in {paper.numbers.unit!r}")
            mapped[column.id] = theirs
    return mapped


def _check_same_metric(row: Row, column: Column, paper: Paper) -> None:
    """Refuse a mapped cell that holds another metric than the paper's table.

    Raises:
        UserError: it does; one line that names both.
    """
    score = split_name(column.metric or "")[1]
    reduction = column.kind == "relative" or row.id.endswith("relative_reduction")
    if (score, reduction) != (paper.numbers.score, paper.numbers.reduction):
        raise UserError(
            f"table.reference: row {row.id!r}, column {column.id!r} is {_words(score, reduction)}, but the numbers of "
            f"{paper.name} are {paper.numbers.what}; only the same metric can be compared"
        )


def _words(score: str, reduction: bool) -> str:
    return f"relative reduction of {metric_words(score)}" if reduction else metric_words(score)


def _columns(column: Column) -> list[Column]:
    """`ours` and its companions, under one header."""
    title = column.header
    groups = (*column.groups, title)
    unit = "points" if column.unit == "%" else column.unit
    shared = {"groups": groups, "metric": column.metric, "arm": column.arm}
    return [
        Column(f"{column.id}:paper", "paper", "paper", unit=column.unit, decimals=None, **shared),  # type: ignore[arg-type]
        replace(column, header="ours", groups=groups, bare=False, direction=None),
        Column(f"{column.id}:difference", "difference", "delta", unit=unit, decimals=column.decimals, **shared),  # type: ignore[arg-type]
        Column(f"{column.id}:range", "interval", "interval", unit=unit, decimals=column.decimals, **shared),  # type: ignore[arg-type]
        Column(f"{column.id}:verdict", "verdict", "verdict", decimals=None, **shared),  # type: ignore[arg-type]
    ]


def _cells(cell: Cell, column: Column, number: float | None) -> dict[str, Cell]:
    names = [f"{column.id}:{part}" for part in ("paper", "difference", "range", "verdict")]
    if number is None:
        return dict.fromkeys(names, Cell())
    paper = Cell(value=number)
    if cell.value is None:
        return dict(zip(names, (paper, Cell(), Cell(), Cell(text="not measured")), strict=True))
    shifted = None
    verdict = "one seed, undecided" if cell.num_seeds < 2 else "no interval, undecided"
    if cell.interval is not None:
        shifted = replace(cell.interval, low=cell.interval.low - number, high=cell.interval.high - number)
        verdict = "higher" if shifted.low > 0 else "lower"
        if shifted.contains(0.0):
            verdict = f"not distinguishable (interval ± {format_number(shifted.half_width, column.decimals)})"
    difference = Cell(value=cell.value - number, num_seeds=cell.num_seeds, trials=cell.trials)
    interval = replace(difference, interval=shifted)
    return dict(zip(names, (paper, difference, interval, Cell(text=verdict, trials=cell.trials)), strict=True))
