r"""A table as LaTeX: booktabs rules, siunitx columns that align at the decimal point, braces that balance.

Needs `booktabs`, `siunitx` and `graphicx` (version 2 and 3 of siunitx); `latex_document` is a whole document around it.
Best means are bold, second bests underlined. A mean stands in an S column and its spread in a column of its own, so
that means align whatever is behind them; a cell that is no plain number is set in braces and padded to the same width.
"""

from __future__ import annotations

import re

from harness.tables.format import (
    CLAIM_HEADERS,
    CellText,
    Formatter,
    claim_texts,
    header_rows,
    legend,
)
from harness.tables.model import Column, HeaderCell, Row, Table
from harness.tables.render.latex_text import escape, label_of

PREAMBLE = r"""\usepackage[utf8]{inputenc}
\usepackage{booktabs}
\usepackage{siunitx}
\usepackage{graphicx}"""


def latex_document(table: Table) -> str:
    """A document that holds only the table, to look at or to include as a picture."""
    return "\n".join(
        [
            r"\documentclass[10pt]{article}",
            r"\usepackage[a4paper,landscape,margin=15mm]{geometry}",
            PREAMBLE,
            r"\pagestyle{empty}",
            r"\begin{document}",
            render_latex(table).rstrip("\n"),
            r"\end{document}",
            "",
        ]
    )


def render_latex(table: Table) -> str:
    """The table as a `table` environment, as wide as the text at most."""
    layouts = [_ColumnLayout(table, column) for column in table.columns]
    specs = "".join(layout.spec for layout in layouts)
    body = [
        r"\begin{table}",
        r"\centering",
        r"\sbox0{%",
        rf"\begin{{tabular}}{{@{{}}l{specs}@{{}}}}",
        r"\toprule",
        *_header(table, layouts),
        r"\midrule",
        *_body(table, layouts),
        r"\bottomrule",
        r"\end{tabular}}%",
        r"\ifdim\wd0>\linewidth\sbox0{\resizebox{\linewidth}{!}{\usebox0}}\fi",
        r"\dimen0=\wd0 \ifdim\dimen0<0.6\linewidth\dimen0=0.6\linewidth\fi",
        r"\begin{minipage}{\dimen0}",
        r"\centering",
        rf"\caption{{{escape(table.title)}}}",
        rf"\label{{tab:{label_of(table.name)}}}",
        r"\par\vspace{0.6ex}",
        r"\usebox0\par\smallskip",
        *_notes(table),
        *_claims(table),
        r"\end{minipage}",
        r"\end{table}",
    ]
    return "\n".join(["% needs: " + PREAMBLE.replace("\n", "\n% "), *body]) + "\n"


class _ColumnLayout:
    """The layout of one column: an S column for the means, and a second column for the spread if there is any."""

    def __init__(self, table: Table, column: Column) -> None:
        formatter = Formatter(table)
        self.column = column
        self.cells = {row.id: formatter.cell(row.cells[column.id], column) for row in table.rows}
        self.numeric = column.kind in ("value", "delta", "relative", "paper") and any(
            row.cells[column.id].text is None and not self.cells[row.id].missing for row in table.rows
        )
        self.spread_width = max((len(cell.spread.partition(".")[0]) for cell in self.cells.values()), default=0)
        tails = [self._tail(cell, "") for cell in self.cells.values()]
        self.wide = self.numeric and any(tails)
        mains = [_plain_number(cell.main) for cell in self.cells.values() if not cell.missing]
        self.before = max((len(main.lstrip("+-").partition(".")[0]) for main in mains), default=1)
        self.after = max((len(main.partition(".")[2]) for main in mains), default=0)
        self.signed = any(main[:1] in ("+", "-") for main in mains)

    @property
    def spec(self) -> str:
        """The column's part of the tabular's argument."""
        if not self.numeric:
            return "r" if self.column.kind != "verdict" else "l"
        sign = "+" if self.signed and self.column.kind in ("delta", "relative") else "-" if self.signed else ""
        single = f"S[table-format={sign}{self.before}.{self.after}, detect-weight, mode=text, retain-explicit-plus]"
        return f"{single}@{{}}l" if self.wide else single

    @property
    def width(self) -> int:
        """How many columns of the tabular it takes."""
        return 2 if self.wide else 1

    def cell(self, row: Row) -> str:
        """A cell with its spread, as the fields of a line."""
        text = self.cells[row.id]
        notes = "".join(rf"\textsuperscript{{{escape(mark)}}}" for mark in text.notes if mark)
        if not self.numeric:
            return _signs(escape(text.main)) + notes
        main = self._main(text)
        tail = self._tail(text, notes)
        return f"{main} & {tail}" if self.wide else main

    def _main(self, text: CellText) -> str:
        if text.missing:
            return r"{\textendash}"
        number = _plain_number(text.main)
        if text.rank == 1:
            return rf"\bfseries {number}"
        if text.rank == 2:
            return self._underlined(number)
        return number

    def _underlined(self, number: str) -> str:
        r"""Braces take a number out of siunitx's alignment, so it is padded to the width of the column's format."""
        digits = len(number.lstrip("+-").partition(".")[0])
        sign = number[:1] if number[:1] in ("+", "-") else ""
        padding = r"\phantom{" + "0" * (self.before - digits) + "}" if digits < self.before else ""
        sign_padding = r"\phantom{$-$}" if self.signed and not sign else ""
        shown = number.lstrip("+-")
        signed = rf"${sign}$" if sign else ""
        return rf"{{{sign_padding}{padding}\underline{{{signed}{shown}}}}}"

    def _tail(self, text: CellText, notes: str) -> str:
        """Spread, interval, mark and notes: what stands behind the mean."""
        mark = rf"\textsuperscript{{{text.mark}}}" if text.mark else ""
        if text.spread:
            missing = self.spread_width - len(text.spread.partition(".")[0])
            padding = r"\phantom{" + "0" * missing + "}" if missing > 0 else ""
            return rf"\,$\pm$\,{padding}{text.spread}{mark}{notes}"
        if text.range:
            return rf"\,{_signs(escape(text.range))}{mark}{notes}"
        return f"{mark}{notes}"


def _signs(text: str) -> str:
    """Minus signs instead of hyphens."""
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", text)


def _plain_number(text: str) -> str:
    """A number as siunitx reads it: without thousands separators."""
    return text.replace(",", "")


def _header(table: Table, layouts: list[_ColumnLayout]) -> list[str]:
    starts = [2]
    for layout in layouts:
        starts.append(starts[-1] + layout.width)
    lines = []
    for row in header_rows(table):
        lines.append(" & ".join(["", *(_spanning(cell, layouts) for cell in row)]) + r" \\")
        lines += [
            rf"\cmidrule(lr){{{starts[cell.start]}-{starts[cell.start + cell.span] - 1}}}" for cell in row if cell.text
        ]
    names = [_multicolumn(layout.width, _stacked(layout.column)) for layout in layouts]
    lines.append(" & ".join([escape(table.corner), *names]) + r" \\")
    return lines


def _spanning(cell: HeaderCell, layouts: list[_ColumnLayout]) -> str:
    width = sum(layout.width for layout in layouts[cell.start : cell.start + cell.span])
    return _multicolumn(width, escape(cell.text))


def _multicolumn(width: int, text: str) -> str:
    return rf"\multicolumn{{{width}}}{{c}}{{{text}}}"


def _stacked(column: Column) -> str:
    """A header over a few short lines: the name in lines of up to about 14 letters, then unit and direction."""
    lines: list[str] = []
    for word in column.header.split():
        if lines and len(lines[-1]) + 1 + len(word) <= 14:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    lines += [column.measure] if column.measure else []
    if len(lines) == 1:
        return escape(lines[0])
    return r"\begin{tabular}[b]{@{}c@{}}" + r"\\".join(escape(line) for line in lines) + r"\end{tabular}"


def _body(table: Table, layouts: list[_ColumnLayout]) -> list[str]:
    lines: list[str] = []
    width = 1 + sum(layout.width for layout in layouts)
    for number, (group, rows) in enumerate(table.row_groups):
        if number:
            lines.append(r"\addlinespace" if group is not None else r"\midrule")
        if group is not None:
            lines.append(rf"\multicolumn{{{width}}}{{@{{}}l}}{{\textit{{{escape(group)}}}}} \\")
        for place, row in enumerate(rows):
            if row.kind == "summary" and place and rows[place - 1].kind != "summary":
                lines.append(r"\midrule")
            notes = "".join(rf"\textsuperscript{{{escape(mark)}}}" for mark in row.footnotes if mark)
            indent = r"\quad " if group is not None else ""
            lines.append(
                " & ".join([indent + escape(row.label) + notes, *(layout.cell(row) for layout in layouts)]) + r" \\"
            )
    return lines


def _notes(table: Table) -> list[str]:
    notes = legend(table, "bold", "underlined")
    if not notes:
        return []
    lines = [r"{\footnotesize\raggedright"]
    for note in notes:
        mark = rf"\textsuperscript{{{escape(note.mark)}}}\," if note.mark else ""
        lines.append(rf"{mark}{escape(note.text)}.\par")
    return [*lines, "}"]


def _claims(table: Table) -> list[str]:
    if not table.claims:
        return []
    column = r"p{0.36\linewidth}lp{0.24\linewidth}p{0.18\linewidth}"
    lines = [
        r"\par\medskip\footnotesize",
        rf"\begin{{tabular}}{{@{{}}{column}@{{}}}}",
        r"\toprule",
        " & ".join(escape(header) for header in CLAIM_HEADERS) + r" \\",
        r"\midrule",
    ]
    lines += [" & ".join(escape(text) for text in claim_texts(claim)) + r" \\" for claim in table.claims]
    return [*lines, r"\bottomrule", r"\end{tabular}"]
