"""A published rendering that is not what its format makes of the table is named by cell, or else by its line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tables_tests.features import feature_table

from harness.checks.findings import Drift, Findings, cell_name
from harness.checks.table_checks import Span, check_rendering
from harness.tables.format import Formatter
from harness.tables.model import Table
from harness.tables.render.formats import FORMATS

TEXT_FORMATS = [name for name, format in FORMATS.items() if format.read is None]


@pytest.fixture(scope="module")
def table() -> Table:
    return feature_table()


def drifts(table: Table, format: str, text: str) -> list[Drift]:
    found = Findings()
    check_rendering(FORMATS[format].file_name, text.encode(), table, FORMATS[format], found)
    return found.drifts


def changed_digits(text: str) -> Iterator[tuple[int, str]]:
    """The text with one digit changed, and in which line: every digit of it, one after the other."""
    for found in re.finditer(r"\d", text):
        digit = str((int(found.group()) + 1) % 10)
        yield text.count("\n", 0, found.start()), text[: found.start()] + digit + text[found.end() :]


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_bytes_count_their_cells(table: Table, format: str) -> None:
    found = Findings()
    check_rendering("file", FORMATS[format].render(table).encode(), table, FORMATS[format], found)
    assert found.drifts == []
    assert found.held["cells of file"] == len(table.rows) * len(table.columns)


@pytest.mark.slow
@pytest.mark.parametrize("format", TEXT_FORMATS)
def test_the_number_of_every_cell_is_named_by_its_cell(table: Table, format: str) -> None:
    """Each cell's number is changed in the model, and the rendering of that is what was published."""
    render = FORMATS[format].render
    texts = Formatter(table)
    checked = 0
    for place, (row, column, cell) in list(enumerate(table))[::2]:
        number = row.cells[column.id].value
        if number is None or column.kind == "count" or column.decimals is None or column.kind == "interval":
            continue
        step = 10.0**-column.decimals if texts.cell(cell, column).main[-1:] != "9" else -(10.0**-column.decimals)
        rows = list(table.rows)
        at = place // len(table.columns)
        rows[at] = replace(row, cells={**row.cells, column.id: replace(cell, value=number + step)})
        published = render(replace(table, rows=tuple(rows)))
        if published == render(table):
            continue
        (drift,) = drifts(table, format, published)
        assert drift.place == cell_name(row.id, column.id), (format, row.id, column.id, drift)
        checked += 1
    assert checked >= 6


@pytest.mark.slow
@pytest.mark.parametrize("format", TEXT_FORMATS)
def test_no_changed_digit_is_overlooked(table: Table, format: str) -> None:
    text = FORMATS[format].render(table)
    changes = list(changed_digits(text))
    for line, changed in changes[:: len(changes) // 5]:
        assert drifts(table, format, changed), f"line {line + 1}"


def _with(table: Table, field: str, factor: float) -> Table:
    """The table with one number of its first compared cell multiplied."""
    row, column, cell = next((r, c, x) for r, c, x in table if x.comparison is not None and x.comparison.interval)
    comparison = cell.comparison
    assert comparison is not None and comparison.interval is not None and cell.value is not None
    if field == "value":
        changed = replace(cell, value=cell.value * factor)
    else:
        interval = replace(comparison.interval, low=comparison.interval.low * factor)
        changed = replace(cell, comparison=replace(comparison, interval=interval))
    rows = [replace(r, cells={**r.cells, column.id: changed}) if r is row else r for r in table.rows]
    return replace(table, rows=tuple(rows))


@pytest.mark.parametrize(
    ("field", "factor", "drifts_expected"),
    [("interval", 1 + 1e-11, False), ("interval", 1 + 1e-5, True), ("value", 1 + 1e-11, True)],
)
def test_an_intervals_last_digits_are_the_processors(
    table: Table, field: str, factor: float, drifts_expected: bool
) -> None:
    published = FORMATS["json"].render(_with(table, field, factor))
    assert bool(drifts(table, "json", published)) is drifts_expected


def test_a_key_that_no_table_has_is_a_drift(table: Table) -> None:
    published = FORMATS["json"].render(_with(table, "interval", 1 + 1e-11))
    assert drifts(table, "json", published.replace('{\n "name"', '{\n "more": 1,\n "name"', 1))


@pytest.mark.parametrize("format", TEXT_FORMATS)
def test_another_title_is_named_by_its_line(table: Table, format: str) -> None:
    text = FORMATS[format].render(table)
    if "Features" not in text:
        return  # a CSV file has no title
    (drift,) = drifts(table, format, text.replace("Features", "Futures", 1))
    assert drift.place == FORMATS[format].file_name
    assert "Futures" in drift.message and "line " in drift.message


@pytest.mark.parametrize("format", TEXT_FORMATS)
def test_an_invented_line_is_named_by_its_line(table: Table, format: str) -> None:
    lines = FORMATS[format].render(table).split("\n")
    middle = len(lines) // 2
    (drift,) = drifts(table, format, "\n".join([*lines[:middle], "invented", *lines[middle:]]))
    assert drift.place == FORMATS[format].file_name
    assert f"line {middle + 1}," in drift.message and "'invented'" in drift.message


def test_a_document_of_its_own_is_a_rendering_too(table: Table) -> None:
    text = FORMATS["tex"].render_alone(table)
    assert drifts(table, "tex", text) == []
    (drift,) = drifts(table, "tex", text.replace("landscape", "portrait"))
    assert drift.place == "table.tex" and "portrait" in drift.message


def test_what_is_no_text_is_a_drift(table: Table) -> None:
    found = Findings()
    check_rendering("table.md", b"\xff\xfe", table, FORMATS["md"], found)
    assert [drift.place for drift in found.drifts] == ["table.md"]


def test_spans() -> None:
    assert Span.of("a 172.0 b", "a  72.0 b") == Span(2, 3)
    assert Span.of("same", "same") == Span(4, 4)
    assert Span(2, 3).distance(Span(3, 7)) == 0
    assert Span(2, 3).distance(Span(5, 7)) == Span(5, 7).distance(Span(2, 3)) == 2
