"""A table as Markdown (GitHub's pipes): headers of several rows become one, since pipes have no spanning cells."""

from __future__ import annotations

import re

from harness.tables.format import CLAIM_HEADERS, Formatter, claim_texts, common_header, header_lines, legend
from harness.tables.model import Row, Table

BEST, SECOND = "**{}**", "<ins>{}</ins>"  # GitHub underlines <ins>


def render_markdown(table: Table) -> str:
    """The table with its title, then its footnotes as a list, then its claims."""
    formatter = Formatter(table)
    header = [escape(table.corner), *(escape(" ".join(header_lines(table, column))) for column in table.columns)]
    over = common_header(table)
    title = f"**{escape(table.title)}**" + (f" · {escape(over)}" if over else "")
    lines = [title, "", _row(header), _row([":---", *["---:"] * (len(header) - 1)])]
    for group, rows in table.row_groups:
        if group is not None:
            lines.append(_row([f"**{escape(group)}**", *[""] * len(table.columns)]))
        for row in rows:
            cells = [formatter.cell(row.cells[column.id], column) for column in table.columns]
            shown = [cell.around(BEST, SECOND, "\\{}") + _notes(cell.notes) for cell in cells]
            lines.append(_row([_label(row), *shown]))
    notes = [
        f"- {_notes((note.mark,))} {escape(note.text)}".replace("-  ", "- ")
        for note in legend(table, "bold", "underlined")
    ]
    return "\n".join([*lines, "", *notes, *_claims(table)]) + "\n"


def escape(text: str) -> str:
    """Text in which nothing is Markdown (nor a formula, between dollars); underscores inside words are not."""
    return re.sub(r"([|*`<\\$]|~(?=~)|\](?=[(\[:])|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.splitlines()))


def _label(row: Row) -> str:
    label = escape(row.label)
    return (f"*{label}*" if row.kind == "summary" else label) + _notes(row.footnotes)


def _notes(marks: tuple[str, ...]) -> str:
    shown = ",".join(mark for mark in marks if mark)
    return f"<sup>{shown}</sup>" if shown else ""


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _claims(table: Table) -> list[str]:
    if not table.claims:
        return []
    lines = ["", _row([*CLAIM_HEADERS]), _row([":---"] * len(CLAIM_HEADERS))]
    return lines + [_row([escape(text) for text in claim_texts(claim)]) for claim in table.claims]
