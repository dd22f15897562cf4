"""Checks of a published table: every cell of every committed rendering against the table that the records give.

A rendering is read as a grid of cells, so that a difference is told by its row and column; whatever else differs
(title, footnotes) is told by its line.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from html import unescape
from pathlib import Path
from typing import Any

from harness.checks.findings import Findings, cell_name
from harness.tables.model import Cell, Table

Grid = dict[tuple[str, str], str]  # (row, column) -> text


def check_renderings(folder: Path, table: Table, renderers: Mapping[str, Callable[[Table], str]],
                     parse: Callable[[str], Table], findings: Findings) -> int:  # fmt: skip
    """Compare `table.FORMAT` files in a folder with the rebuilt table.

    Args:
        renderers: format -> renderer.
        parse: reads `table.json` back.

    Returns:
        how many renderings there are.
    """
    found = 0
    for format, render in renderers.items():
        path = folder / f"table.{format}"
        if not path.is_file():
            continue
        found += 1
        committed = path.read_text(encoding="utf-8")
        if format == "json":
            check_model(path.name, committed, table, parse, findings)
        else:
            check_text(path.name, format, committed, render(table), findings)
    return found


def check_model(name: str, committed: str, table: Table, parse: Callable[[str], Table], findings: Findings) -> None:
    """Compare the committed model, full precision, cell by cell; then everything else in it."""
    try:
        published = parse(committed)
    except (ValueError, KeyError, TypeError) as error:
        findings.check(False, "", name, f"is no table ({error})")
        return
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
            findings.check(False, "", cell_name(row.id, column.id), f"{name} has it, the records do not give it")
    if len(findings.drifts) == before:
        for field in fields(Table):
            if field.name != "rows":
                same = getattr(published, field.name) == getattr(table, field.name)
                findings.check(same, f"title, columns and notes of {name}", name,
                               f"its {field.name} are not those that the records give")  # fmt: skip


def differing_field(published: Cell, derived: Cell) -> str | None:
    """The first field in which two cells differ, as `value 51.3, the records give 51.4`; None where they are equal."""
    for field in fields(Cell):
        one, other = getattr(published, field.name), getattr(derived, field.name)
        if one != other:
            return f"{field.name} {_brief(one)}, the records give {_brief(other)}"
    return None


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:157]}..."


def check_text(name: str, format: str, committed: str, derived: str, findings: Findings) -> None:
    """Compare a rendering cell by cell, then line by line."""
    if committed == derived:
        findings.held[f"cells of {name}"] += len(READERS[format](derived))
        return
    before = len(findings.drifts)
    published, expected = READERS[format](committed), READERS[format](derived)
    for (row, column), text in expected.items():
        other = published.get((row, column))
        says = "has no such cell" if other is None else f"says {other!r}"
        message = f"{name} {says}, the records give {text!r}"
        findings.check(other == text, f"cells of {name}", cell_name(row, column), message)
    for row, column in [place for place in published if place not in expected]:
        findings.check(False, "", cell_name(row, column), f"{name} has it, the records do not give it")
    if len(findings.drifts) == before:  # so it is the title, a footnote, a header
        lines = difflib.unified_diff(committed.splitlines(), derived.splitlines(), n=0, lineterm="")
        changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        ours = next((line[1:] for line in changed if line[0] == "-"), "")
        theirs = next((line[1:] for line in changed if line[0] == "+"), "")
        findings.check(False, "", name, f"says {ours.strip()!r}, the records give {theirs.strip()!r}")


@dataclass
class _Names:
    """Gives each (row, column) a name of its own, however often labels are repeated."""

    grid: Grid

    def put(self, row: str, column: str, text: str) -> None:
        name, count = row, 1
        while (name, column) in self.grid:
            count += 1
            name = f"{row} ({count})"
        self.grid[name, column] = text


def read_markdown(text: str) -> Grid:
    """The cells of a pipe table; the row above `---` has the columns' names."""
    names = _Names({})
    header: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            names.grid.clear()  # what stood above were headers
        elif header and len(cells) == len(header):
            _put_row(names, header, cells)
        if not any(names.grid) and not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            header = cells
    return names.grid


def read_csv(text: str) -> Grid:
    """The cells of a CSV file whose first line has the columns' names; lines of a single cell (notes) are left out."""
    rows = [row for row in csv.reader(io.StringIO(text)) if row and not row[0].startswith("#")]
    names = _Names({})
    for row in rows[1:]:
        if len(row) == len(rows[0]):
            _put_row(names, rows[0], row)
    return names.grid


def read_latex(text: str) -> Grid:
    """The cells of a tabular: rows end with a double backslash; columns are told by their number."""
    names = _Names({})
    for line in text.splitlines():
        body = line.strip()
        if "&" in body and body.endswith(r"\\"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)&", body.removesuffix(r"\\"))]
            _put_row(names, [f"column {number}" for number in range(1, len(cells) + 1)], cells)
    return names.grid


def read_html(text: str) -> Grid:
    """The cells that name their row and column (`data-row`, `data-column`), with their tags taken off."""
    names = _Names({})
    for attributes, content in re.findall(r"<t[dh]\b([^>]*)>(.*?)</t[dh]>", text, flags=re.DOTALL):
        found = dict(re.findall(r'([\w-]+)="([^"]*)"', attributes))
        if "data-row" in found and "data-column" in found:
            shown = " ".join(unescape(re.sub(r"<[^>]+>", "", content)).split())
            value = found.get("data-value", "")
            names.put(unescape(found["data-row"]), unescape(found["data-column"]), f"{shown} [{value}]")
    return names.grid


def _put_row(names: _Names, header: list[str], cells: list[str]) -> None:
    for column, cell in zip(header[1:], cells[1:], strict=True):
        names.put(cells[0], column, cell)


READERS: dict[str, Callable[[str], Grid]] = {
    "md": read_markdown,
    "csv": read_csv,
    "tex": read_latex,
    "html": read_html,
}
