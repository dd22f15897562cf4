"""Committed renderings are read as grids of cells, and a changed one is named by row and column."""

from __future__ import annotations

import pytest

from harness.checks.findings import Findings
from harness.checks.table_checks import check_text, read_csv, read_html, read_latex, read_markdown

MARKDOWN = """**A title**

| arm | n | macro f1 (%) ↑ |
| :--- | ---: | ---: |
| a\\|b | 5 | **47.5** ± 0.1 |
| plain | 5 | 46.0 ± 0.2 |

- mean ± sample sd
"""
CSV = "arm,n,macro_f1\nplain,5,46.0\nother,5,47.0\n"
LATEX = r"""\begin{tabular}{lrr}
\toprule
arm & n & F1 \\
\midrule
plain & 5 & 46.0 \\
R\&D & 5 & 47.0 \\
\bottomrule
\end{tabular}
"""
HTML = """<table><thead><tr><th>arm</th><th data-column="f1">F1</th></tr></thead><tbody>
<tr><th data-row="a&lt;b">a&lt;b</th>
<td id="x" data-row="a&lt;b" data-column="f1" data-value="47.512"><strong>47.5</strong></td></tr>
</tbody></table>"""


def test_markdown() -> None:
    assert read_markdown(MARKDOWN) == {
        ("a\\|b", "n"): "5",
        ("a\\|b", "macro f1 (%) ↑"): "**47.5** ± 0.1",
        ("plain", "n"): "5",
        ("plain", "macro f1 (%) ↑"): "46.0 ± 0.2",
    }


def test_csv() -> None:
    assert read_csv(CSV)["other", "macro_f1"] == "47.0"
    assert len(read_csv(CSV)) == 4


def test_latex() -> None:
    assert read_latex(LATEX)["plain", "column 3"] == "46.0"
    assert read_latex(LATEX)[r"R\&D", "column 2"] == "5"


def test_html() -> None:
    assert read_html(HTML) == {("a<b", "f1"): "47.5 [47.512]"}


def test_repeated_rows_keep_their_cells_apart() -> None:
    assert len(read_csv("arm,x\na,1\na,2\n")) == 2


@pytest.mark.parametrize(
    ("format", "text", "old", "new", "cell"),
    [
        ("md", MARKDOWN, "46.0 ± 0.2", "46.1 ± 0.2", "plain x macro f1 (%) ↑"),
        ("md", MARKDOWN, "46.0 ± 0.2", "46.0 ± 0.3", "plain x macro f1 (%) ↑"),
        ("csv", CSV, "47.0", "47.1", "other x macro_f1"),
        ("tex", LATEX, "46.0", "46.8", "plain x column 3"),
        ("html", HTML, 'data-value="47.512"', 'data-value="47.513"', "a<b x f1"),
        ("html", HTML, ">47.5<", ">47.6<", "a<b x f1"),
    ],
)
def test_a_changed_digit_is_named(format: str, text: str, old: str, new: str, cell: str) -> None:
    assert text.count(old) == 1
    found = Findings()
    check_text(f"table.{format}", format, text.replace(old, new), text, found)
    (drift,) = found.drifts
    assert drift.place == cell
    assert drift.message.startswith(f"table.{format} says ")


@pytest.mark.parametrize(("old", "new"), [("A title", "B title"), ("mean ±", "median ±")])
def test_whatever_else_changed_is_named_by_its_line(old: str, new: str) -> None:
    found = Findings()
    check_text("table.md", "md", MARKDOWN.replace(old, new), MARKDOWN, found)
    (drift,) = found.drifts
    assert drift.place == "table.md"
    assert new.split()[0] in drift.message


def test_a_row_that_the_records_do_not_give() -> None:
    found = Findings()
    check_text("table.csv", "csv", CSV + "invented,5,99.9\n", CSV, found)
    assert {drift.place for drift in found.drifts} == {"invented x n", "invented x macro_f1"}


def test_the_same_text_counts_its_cells() -> None:
    found = Findings()
    check_text("table.md", "md", MARKDOWN, MARKDOWN, found)
    assert (found.drifts, found.held["cells of table.md"]) == ([], 4)
