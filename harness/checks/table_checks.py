"""Check a published table: compare each of its files, byte for byte, with the table that the records give.

Where bytes differ, a format that can be read back (JSON) is compared cell by cell. Other formats are
not parsed: the check names the first line that differs, and the cell in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from harness.checks.findings import Findings, cell_name
from harness.errors import UserError
from harness.tables.format import Formatter
from harness.tables.model import Cell, Row, Table
from harness.tables.render.formats import Format

Render = Callable[[Table], str]
SCORES = ("value", "values", "sd")
LAST_DIGITS = 1e-7  # relative; no table prints that many
PROBE = "\u25a1"  # stands for a character of a changed cell or label


def check_renderings(folder: Path, table: Table, formats: Mapping[str, Format], findings: Findings) -> int:
    """Compare the table's files in a folder with the rebuilt table.

    Returns:
        how many there are.
    """
    found = 0
    for format in formats.values():
        path = folder / format.file_name
        if not path.exists():
            continue
        found += 1
        try:
            check_rendering(path.name, path.read_bytes(), table, format, findings)
        except OSError as error:
            findings.check(False, "", path.name, f"it cannot be read ({error.strerror})")
    return found


def check_rendering(name: str, committed: bytes, table: Table, format: Format, findings: Findings) -> None:
    """Compare one file with what its format makes of the table, alone or as a document of its own."""
    rendered = {render(table): render for render in (format.render_alone, format.render)}
    if any(text.encode() == committed for text in rendered):
        findings.held[f"cells of {name}"] += len(table.rows) * len(table.columns)
        return
    try:
        text = committed.decode()
    except UnicodeDecodeError as error:
        findings.check(False, "", name, f"it is not a text file ({error})")
        return
    before = len(findings.drifts)
    if format.read is not None:
        published = check_model(name, text, table, format.read, findings)
        if published is not None and len(findings.drifts) == before:
            # The numbers hold; what is left is the text around them.
            rendered = {render(published): render for render in rendered.values()}
            if text in rendered:
                return
    if len(findings.drifts) == before:
        nearest = max(rendered, key=lambda derived: sum(map(str.__eq__, text.splitlines(), derived.splitlines())))
        check_text(name, text, table, rendered[nearest], findings)


def check_model(
    name: str, committed: str, table: Table, read: Callable[[str, str], Table], findings: Findings
) -> Table | None:
    """Compare a published table that can be read back: cell by cell, then all the rest; None where it cannot be read.

    Scores are compared in full precision. Intervals and p-values solve equations over sums of products, and another
    processor may compute their last digits otherwise: they are compared to `LAST_DIGITS`.
    """
    try:
        published = read(committed, name)
    except UserError as error:
        findings.check(False, "", name, f"it cannot be read as a table ({error})")
        return None
    before = len(findings.drifts)
    for row, column, cell in table:
        try:
            other = published.cell(row.id, column.id)
        except KeyError:
            findings.check(False, "", cell_name(row.id, column.id), f"{name} has no such cell")
            continue
        difference = differing_field(other, cell)
        findings.check(difference is None, f"cells of {name}", cell_name(row.id, column.id), f"{name} has {difference}")
    here = {(row.id, column.id) for row, column, _ in table}
    for row, column, _ in published:
        if (row.id, column.id) not in here:
            findings.check(
                False, "", cell_name(row.id, column.id), f"{name} has this cell, but the records do not give it"
            )
    check_rows(name, published, table, findings)
    if len(findings.drifts) == before:
        for field in fields(Table):
            if field.name != "rows":
                same = _alike(getattr(published, field.name), getattr(table, field.name))
                findings.check(same, f"title, columns and notes of {name}", name,
                               f"its {field.name} are not those that the records give")  # fmt: skip
    return published


def check_rows(name: str, published: Table, table: Table, findings: Findings) -> None:
    """Compare what the rows are besides their numbers: in their order, each once, with their labels, groups and marks.

    Cells are compared by ids, so they say nothing of a row that stands elsewhere, or a second time.
    """
    both = zip_longest(map(_about, published.rows), map(_about, table.rows))
    for number, (one, other) in enumerate(both, start=1):
        if one is None or other is None:
            message = f"it has {len(published.rows)} rows, but the records give {len(table.rows)}"
            findings.check(False, "", name, message)
            return
        for field, value in one.items():
            if value != other[field]:
                message = f"row {number} has {field} {_brief(value)}, the records give {_brief(other[field])}"
                findings.check(False, "", name, message)
                return
    findings.held[f"order, labels, groups and marks of the rows of {name}"] += len(table.rows)


def _about(row: Row) -> dict[str, Any]:
    """Everything that a row is but its cells, and of these the columns."""
    return {**{field.name: getattr(row, field.name) for field in fields(Row)}, "cells": tuple(row.cells)}


def differing_field(published: Cell, derived: Cell) -> str | None:
    """The first field in which two cells differ, as `value 51.3, the records give 51.4`; None where they are equal."""
    for field in fields(Cell):
        one, other = getattr(published, field.name), getattr(derived, field.name)
        if not (one == other if field.name in SCORES else _alike(one, other)):
            return f"{field.name} {_brief(one)}, the records give {_brief(other)}"
    return None


def _alike(one: Any, other: Any) -> bool:
    """Whether two values are equal, numbers in them but for their last digits."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=LAST_DIGITS, abs_tol=1e-12)
    if is_dataclass(one) and type(one) is type(other):
        return all(_alike(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        return all(map(_alike, one, other))
    return bool(one == other)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:157]}..."


def check_text(name: str, committed: str, table: Table, render: Render, findings: Findings) -> None:
    """Name the first line in which a rendering differs, and the cell that stands there."""
    ours, theirs = committed.split("\n"), render(table).split("\n")
    number = _first_difference(ours, theirs)
    published, derived = (lines[number] if number < len(lines) else "" for lines in (ours, theirs))
    place = name
    if len(ours) == len(theirs):
        cell = find_cell(table, render, number, Span.of(published, derived))
        place = name if cell is None else cell_name(*cell)
    message = f"{name}, line {number + 1}, says {published.strip()!r}, the records give {derived.strip()!r}"
    findings.check(False, "", place, message)


@dataclass(frozen=True)
class Span:
    """Where a line differs from another one: from the first character that differs to behind the last."""

    start: int
    end: int

    @classmethod
    def of(cls, changed: str, line: str) -> Span:
        """The part of `line` that `changed` has not."""
        start = _first_difference(changed, line)
        behind = _first_difference(changed[::-1], line[::-1])
        return cls(start, max(start, len(line) - behind))

    def distance(self, other: Span) -> int:
        """The number of characters between two spans; 0 where they touch."""
        return max(0, other.start - self.end, self.start - other.end)


def _first_difference(one: Any, other: Any) -> int:
    shared = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(shared) if a != b), min(len(one), len(other)))


def find_cell(table: Table, render: Render, number: int, span: Span) -> tuple[str, str] | None:
    """The row and column ids of the cell that stands at a place in a line of a rendering; None where no cell does.

    The format need not be known: the table is rendered again with one label or one cell replaced by `PROBE`, and the
    place where the text changes is where that label or cell stands.

        table        | better | 61.0 | 0.4 |      line `number`, difference at column 13 of the text
        probed label | □□□□□□ | 61.0 | 0.4 |      the row begins in this line
        probed cell  | better | □□□□ | 0.4 |      the nearest change: the cell in question
    """
    lines = render(table).split("\n")
    begins = {place: _first_difference(_with_label(table, place, render), lines) for place in range(len(table.rows))}
    above = [place for place, line in begins.items() if line <= number]
    if not above:
        return None
    place = max(above, key=lambda place: begins[place])  # a row may take several lines: the last one that began
    row = table.rows[place]
    changes = {"label": _with_label(table, place, render)}
    for column in table.columns:
        probed = _with_row(table, place, replace(row, cells=_with_probe(table, row, column.id)))
        changes[column.id] = render(probed).split("\n")
    spans = {
        what: Span.of(changed[number], lines[number])
        for what, changed in changes.items()
        if len(changed) == len(lines) and changed[number] != lines[number]
    }
    if not spans.keys() - {"label"}:
        return None  # no cell of the row stands in this line
    return row.id, min(spans, key=lambda what: spans[what].distance(span))


def _with_row(table: Table, place: int, row: Row) -> Table:
    return replace(table, rows=(*table.rows[:place], row, *table.rows[place + 1 :]))


def _with_label(table: Table, place: int, render: Render) -> list[str]:
    row = table.rows[place]
    return render(_with_row(table, place, replace(row, label=PROBE * len(row.label)))).split("\n")


def _with_probe(table: Table, row: Row, column_id: str) -> dict[str, Cell]:
    """The row's cells, one of them with other text of the same length and another number of seeds."""
    cell = row.cells[column_id]
    shown = Formatter(table).cell(cell, table.column(column_id)).plain
    probe = Cell(text=PROBE * len(shown), num_seeds=cell.num_seeds + 1, num_planned=cell.num_planned + 1)
    return {**row.cells, column_id: replace(probe, rank=cell.rank, footnotes=cell.footnotes)}
