"""A table as HTML: one `<figure>` with caption, scopes and unique ids, ready to sort; or a page of its own.

Each cell carries its full-precision number (`data-value`) and where it stands (`data-row`, `data-column`); classes say
what it is (`best`, `second`, `better`, `worse`, `missing`, `uneven`). No script, nothing from the network.
"""

from __future__ import annotations

import re
from html import escape

from harness.tables.format import CLAIM_HEADERS, CellText, Formatter, claim_texts, header_rows, legend
from harness.tables.model import Cell, Column, Footnote, Row, Table


def render_html(table: Table) -> str:
    """The table as a fragment: `<figure class="harness-table" id="table-NAME">`."""
    name = element_id(table.name)
    formatter = Formatter(table)
    lines = [
        f'<figure class="harness-table" id="figure-{name}">',
        '<div class="scroll" tabindex="0" role="region" aria-labelledby="caption-' + name + '">',
        f'<table id="table-{name}">',
        f'<caption id="caption-{name}">{escape(table.title)}</caption>',
        *_head(table, name),
    ]
    number = 0
    for place, (group, rows) in enumerate(table.row_groups):
        lines.append("<tbody>")
        if group is not None:
            span = len(table.columns) + 1
            header = f'<th scope="rowgroup" colspan="{span}" id="{name}-g{place}">{escape(group)}</th>'
            lines.append(f'<tr class="group">{header}</tr>')
        for row in rows:
            lines.append(_row(table, formatter, row, name, number))
            number += 1
        lines.append("</tbody>")
    lines += ["</table>", "</div>", *_footnotes(table), *_claims(table, name), "</figure>"]
    return "\n".join(lines) + "\n"


def element_id(name: str) -> str:
    """A name as a part of an HTML id."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)


def _head(table: Table, name: str) -> list[str]:
    spanning = header_rows(table)
    lines = ["<thead>"]
    height = len(spanning) + 1
    for level, row in enumerate(spanning):
        cells = []
        if level == 0:
            cells.append(f'<th scope="col" rowspan="{height}" id="{name}-corner">{escape(table.corner)}</th>')
        for cell in row:
            if not cell.text:
                cells.append(f'<td colspan="{cell.span}"></td>')
                continue
            scope = "colgroup" if cell.span > 1 else "col"
            cells.append(f'<th scope="{scope}" colspan="{cell.span}">{escape(cell.text)}</th>')
        lines.append(f'<tr class="spanning">{"".join(cells)}</tr>')
    cells = [] if spanning else [f'<th scope="col" id="{name}-corner">{escape(table.corner)}</th>']
    cells += [_column_header(column, name, number) for number, column in enumerate(table.columns)]
    return [*lines, f"<tr>{''.join(cells)}</tr>", "</thead>"]


def _column_header(column: Column, name: str, number: int) -> str:
    better = f' data-direction="{column.direction}"' if column.direction else ""
    unit = f' <span class="unit">{escape(column.measure)}</span>' if column.measure else ""
    shown = f"{escape(column.header)}{unit}"
    return (
        f'<th scope="col" id="{name}-c{number}" data-column="{escape(column.id)}" data-kind="{column.kind}"{better}>'
        f"{shown}</th>"
    )


def _row(table: Table, formatter: Formatter, row: Row, name: str, number: int) -> str:
    label = f"{escape(row.label)}{_notes(row.footnotes)}"
    cells = [f'<th scope="row" id="{name}-r{number}" data-row="{escape(row.id)}">{label}</th>']
    for place, column in enumerate(table.columns):
        cell = row.cells[column.id]
        cells.append(_cell(cell, formatter.cell(cell, column), row, column, f"{name}-r{number}-c{place}"))
    kind = ' class="summary"' if row.kind == "summary" else ""
    return f"<tr{kind}>{''.join(cells)}</tr>"


def _cell(cell: Cell, text: CellText, row: Row, column: Column, identity: str) -> str:
    classes = [{1: "best", 2: "second"}.get(cell.rank or 0, "")]
    classes += ["missing"] if cell.missing else []
    classes += ["uneven"] if cell.uneven and not cell.missing else []
    if cell.comparison is not None and cell.comparison.verdict != "unclear":
        classes.append(cell.comparison.verdict)
    classes += ["text"] if cell.value is None and not cell.missing else []
    shown = " ".join(name for name in classes if name)
    value = f' data-value="{cell.value!r}"' if cell.value is not None else ""
    attributes = f'id="{identity}" data-row="{escape(row.id)}" data-column="{escape(column.id)}"{value}'
    attributes += f' class="{shown}"' if shown else ""
    return f"<td {attributes}>{_inner(text)}</td>"


def _inner(text: CellText) -> str:
    main = {1: "<strong>{}</strong>", 2: "<u>{}</u>"}.get(text.rank or 0, "{}").format(escape(text.main))
    spread = f'<span class="spread"> ± {escape(text.spread)}</span>' if text.spread else ""
    bracket = f'<span class="spread"> {escape(text.range)}</span>' if text.range else ""
    mark = f'<span class="mark" title="significant">{text.mark}</span>' if text.mark else ""
    return f"{main}{spread}{bracket}{mark}{_notes(text.notes)}"


def _notes(marks: tuple[str, ...]) -> str:
    shown = ",".join(escape(mark) for mark in marks if mark)
    return f"<sup>{shown}</sup>" if shown else ""


def _footnotes(table: Table) -> list[str]:
    notes = legend(table, "bold", "underlined")
    if not notes:
        return []
    return ['<ul class="footnotes">', *(f"<li>{_footnote(note)}</li>" for note in notes), "</ul>"]


def _footnote(note: Footnote) -> str:
    mark = f"<sup>{escape(note.mark)}</sup> " if note.mark else ""
    return f"{mark}{escape(note.text)}"


def _claims(table: Table, name: str) -> list[str]:
    if not table.claims:
        return []
    heads = "".join(f'<th scope="col">{escape(header)}</th>' for header in CLAIM_HEADERS)
    lines = [f'<table class="claims" id="claims-{name}">', "<caption>Claims</caption>"]
    lines += [f"<thead><tr>{heads}</tr></thead>", "<tbody>"]
    for number, claim in enumerate(table.claims):
        first, *others = (escape(text) for text in claim_texts(claim))
        cells = "".join(f"<td>{text}</td>" for text in others)
        verdict = claim.verdict.replace(" ", "-")
        lines.append(f'<tr class="{verdict}" id="claim-{name}-{number}"><th scope="row">{first}</th>{cells}</tr>')
    return [*lines, "</tbody>", "</table>"]


STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1f; --soft: #63636b; --rule: #1b1b1f; --faint: #d9d9de; --page: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ea; --soft: #a0a0a8; --rule: #c9c9cf; --faint: #3a3a41; --page: #17171a; }
}
body { margin: 2rem auto; max-width: 75rem; padding: 0 1rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
.harness-table { margin: 0; }
.harness-table .scroll { overflow-x: auto; }
.harness-table table { border-collapse: collapse; border-block: 2px solid var(--rule);
  font-variant-numeric: tabular-nums; font-size: 0.9rem; }
.harness-table caption { text-align: start; font-weight: 600; padding-bottom: 0.5rem; }
.harness-table th, .harness-table td { padding: 0.25rem 0.75rem; text-align: end; white-space: nowrap;
  vertical-align: bottom; }
.harness-table th[scope="row"], .harness-table thead tr:first-child > th:first-child, .harness-table td.text {
  text-align: start; }
.harness-table tbody th { font-weight: 400; }
.harness-table thead th { font-weight: 600; white-space: normal; }
.harness-table thead tr:last-child > * { border-bottom: 1px solid var(--rule); }
.harness-table thead .spanning th[colspan] { text-align: center; border-bottom: 1px solid var(--faint); }
.harness-table tbody + tbody tr:first-child > * { border-top: 1px solid var(--faint); }
.harness-table .group th { text-align: start; font-style: italic; }
.harness-table tr:not(.summary) + .summary > * { border-top: 1px solid var(--rule); }
.harness-table .unit, .harness-table .spread, .harness-table .missing { color: var(--soft); font-weight: 400; }
.harness-table .unit { display: block; white-space: nowrap; }
.harness-table .mark { display: inline-block; width: 0; }
.harness-table sup { line-height: 0; }
.harness-table .mark + sup { margin-inline-start: 0.5em; }
.harness-table .footnotes { padding-inline-start: 1.1rem; color: var(--soft); font-size: 0.85rem; max-width: 60rem; }
.harness-table .claims { margin-top: 1rem; }
.harness-table .claims :is(th, td) { text-align: start; white-space: normal; vertical-align: top; }
"""


def html_page(table: Table) -> str:
    """The table as a whole page, light and dark."""
    head = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(table.title)}</title>",
        f"<style>{STYLE}</style>",
        "</head>",
        "<body>",
    ]
    return "\n".join([*head, render_html(table).rstrip("\n"), "</body>", "</html>"]) + "\n"
