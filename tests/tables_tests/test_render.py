"""The same table in Markdown and on the terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from harness.metrics import METRICS
from harness.tables.build import Cell, Column, Table, build_table
from harness.tables.render_markdown import format_cell, render_markdown
from harness.tables.render_terminal import print_terminal

from .records_by_hand import Outcome, text_metrics, write_records

GOLDEN = """\
**By hand**

| arm | n | target macro f1 (%) ↑ | target accuracy (%) ↑ | source macro f1 (%) ↑ | forgetting (points) ↓ | constrained score (%) ↑ | trainable share (%) |
| :--- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| frozen | 2 | 40.0 ± 0.0 | 50.0 ± 0.0 | **75.0** ± 0.0 | 0.0 ± 0.0 | **50.0** ± 0.0 | 0.00 ± 0.00 |
| residual\\|add | 2 | **62.0** ± 2.8 | **72.0** ± 2.8 | **75.0** ± 0.0 | **-1.5** ± 0.7 | **50.0** ± 0.0 | 2.00 ± 0.00 |
| [half] | 1 | 60.0 | 70.0 | **75.0** | 0.0 | **50.0** | 2.00 |
| nothing | 0 | – | – | – | – | – | – |

- mean ± sample sd over the finished seeds (n); bold: best mean
- [half]: n = 1 of 2: seed 1 failed (nan)
- nothing: n = 0 of 2: seeds 0, 1 missing
- made with [synthetic] speech
"""  # noqa: E501

ARMS: dict[str, dict[int, Outcome]] = {
    "frozen": {0: text_metrics(0.5, trainable_share=0.0), 1: text_metrics(0.5, trainable_share=0.0)},
    "residual|add": {0: text_metrics(0.7, forgetting=-0.01), 1: text_metrics(0.74, forgetting=-0.02)},
    "[half]": {0: text_metrics(0.7), 1: "failed:nan"},
    "nothing": {0: None, 1: None},
}


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return build_table(write_records(tmp_path, ARMS, notes={"frozen-0": ("made with [synthetic] speech",)}))


def on_terminal(table: Table, width: int | None = None) -> str:
    """What is printed into a pipe, or on a terminal of some width."""
    output = io.StringIO()
    print_terminal(table, Console(file=output, force_terminal=width is not None, width=width, color_system=None))
    return output.getvalue()


def numbers(text: str) -> list[str]:
    return re.findall(r"-?[\d,]+\.\d+|(?<=[\d.] ± )[\d.]+|–", text)


def test_markdown_golden(table: Table) -> None:
    assert render_markdown(table) == GOLDEN


def test_markdown_is_valid(table: Table) -> None:
    """Every row of the pipe table has as many cells as its header, and nothing but the table has pipes."""
    lines = render_markdown(table).splitlines()
    rows = [re.split(r"(?<!\\)\|", line) for line in lines if line.startswith("|")]
    assert len(rows) == 2 + len(ARMS)
    assert {len(row) for row in rows} == {1 + 2 + len(table.columns) + 1}
    assert all(row[0] == row[-1] == "" for row in rows)
    assert all(re.fullmatch(r" :?-{3,}:? ", cell) for cell in rows[1][1:-1])
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    assert lines[first - 1] == ""  # a table needs a blank line before it
    assert lines[first + len(rows)] == ""  # and one after, or the list would become a row
    assert render_markdown(table).endswith("\n")


def test_markdown_marks_are_balanced(table: Table) -> None:
    for line in render_markdown(table).splitlines():
        assert line.count("**") % 2 == 0, line


def test_terminal_has_the_same_numbers(table: Table) -> None:
    rows = [line for line in render_markdown(table).splitlines() if line.startswith("|")][2:]
    printed = [line for line in on_terminal(table).splitlines() if line.startswith("│")]
    assert len(printed) == len(rows)
    for shown, row in zip(printed, rows, strict=True):
        assert numbers(shown) == numbers(row)
        assert len(numbers(row)) >= len(table.columns)


def test_terminal_names_arms_and_notes_as_they_are(table: Table) -> None:
    """Brackets are rich's markup; here they are text."""
    text = on_terminal(table)
    assert "│ [half] " in text
    assert "  made with [synthetic] speech\n" in text
    assert "  [half]: n = 1 of 2: seed 1 failed (nan)\n" in text


def test_a_pipe_marks_the_best_and_says_how(table: Table) -> None:
    text = on_terminal(table)
    assert "│ *72.0 ± 2.8 │" in re.sub(" +", " ", text)
    assert "over the finished seeds (n); *: best mean" in text
    assert "[bold]" not in text


def test_a_terminal_shows_the_best_in_bold(table: Table) -> None:
    output = io.StringIO()
    print_terminal(table, Console(file=output, force_terminal=True, width=250, color_system="standard"))
    assert "\x1b[1m72.0\x1b[0m ± 2.8" in output.getvalue()
    assert "*72.0" not in output.getvalue()
    assert "bold: best mean" in output.getvalue()


def test_no_best_no_legend(tmp_path: Path) -> None:
    alone = build_table(write_records(tmp_path, {"a": {0: text_metrics(0.5), 1: text_metrics(0.6)}}))
    assert render_markdown(alone).splitlines()[-1] == "- mean ± sample sd over n = 2 seeds"


def test_a_wide_table_in_a_pipe_is_not_cut(tmp_path: Path) -> None:
    every = {metric: 0.456 for metric in METRICS if metric not in ("seconds", "peak_memory_mb", "best_epoch")}
    store = write_records(tmp_path, {"a": {0: every, 1: every}, "b": {0: every, 1: every}})
    wide = build_table(store, tuple(METRICS))
    text = on_terminal(wide)
    assert "…" not in text
    (row,) = [line for line in text.splitlines() if line.startswith("│ a ")]
    assert row.count("│") == len(METRICS) + 3
    assert row.count("45.6 ± 0.0") == sum(METRICS[m].unit in ("%", "points") for m in METRICS)


def test_a_narrow_terminal_folds_and_cuts_nothing(table: Table) -> None:
    text = on_terminal(table, width=60)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 60


@pytest.mark.parametrize(
    ("cell", "decimals", "text"),
    [
        (None, 1, "–"),
        (Cell(12.345, None, 1), 1, "12.3"),
        (Cell(12.345, 0.05, 2), 2, "12.35 ± 0.05"),
        (Cell(12.345, 0.15, 2, best=True), 1, "<12.3> ± 0.1"),
        (Cell(-0.04, None, 1), 1, "0.0"),
        (Cell(-0.06, None, 1), 1, "-0.1"),
        (Cell(-0.0, 0.0, 3, best=True), 1, "<0.0> ± 0.0"),
        (Cell(1234567.0, 10.0, 2), 0, "1,234,567 ± 10"),
        (Cell(100.0, 0.0, 5), 1, "100.0 ± 0.0"),
    ],
)
def test_format_cell(cell: Cell | None, decimals: int, text: str) -> None:
    assert format_cell(cell, Column("m", "m", decimals), "<{}>") == text
