"""A table on the terminal, through rich."""

from __future__ import annotations

import io

from rich import box
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table as RichTable

from harness.errors import printable
from harness.tables.format import (
    CLAIM_HEADERS,
    CellText,
    Formatter,
    claim_texts,
    common_header,
    header_lines,
    legend,
)
from harness.tables.model import Table

PIPE_WIDTH = 10_000  # columns: a log or a file has no right edge at which to wrap
_SUPERSCRIPTS = str.maketrans("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")  # there is no q


def print_terminal(table: Table, console: Console | None = None) -> None:
    """Print the table; in a pipe it is as wide as it needs to be, and marks the best in brackets, not in bold."""
    console = console or Console()
    best, second, legend_marks = "[bold]{}[/bold]", "[underline]{}[/underline]", ("bold", "underlined")
    if not console.is_terminal:
        console = Console(file=console.file, width=PIPE_WIDTH)
        best, second, legend_marks = "\\[{}]", "({})", ("[x]", "(x)")
    formatter = Formatter(table)
    texts = {c.id: {row.id: formatter.cell(row.cells[c.id], c) for row in table.rows} for c in table.columns}
    padded = {column: _Padding(list(cells.values()), not console.is_terminal) for column, cells in texts.items()}
    over = common_header(table)
    title = escape(table.title) + (f"\n[dim]{escape(over)}[/dim]" if over else "")
    grid = RichTable(title=title, title_justify="left", title_style="bold", box=box.HEAVY_HEAD)
    grid.add_column(escape(table.corner), overflow="fold")
    for column in table.columns:
        header = escape("\n".join(header_lines(table, column)))
        grid.add_column(header, justify="right", overflow="fold")  # never a number cut short
    for number, (group, rows) in enumerate(table.row_groups):
        if number:
            grid.add_section()
        if group is not None:
            grid.add_row(f"[italic]{escape(group)}[/italic]", *[""] * len(table.columns))
        for place, row in enumerate(rows):
            if row.kind == "summary" and place and rows[place - 1].kind != "summary":
                grid.add_section()
            cells = [_text(texts[column.id][row.id], best, second, padded[column.id]) for column in table.columns]
            grid.add_row(escape(row.label) + _notes(row.footnotes), *cells)
    console.print(grid)
    for note in legend(table, *legend_marks):
        mark = _notes((note.mark,)) if note.mark else ""
        console.print(f"  {mark}{' ' if mark else ''}{escape(note.text)}", highlight=False)
    _print_claims(table, console)


def escape(text: str) -> str:
    """Text as rich prints it: no markup of its own, and nothing that steers the terminal."""
    return escape_markup(printable(text, keep="\n"))


def render_terminal(table: Table) -> str:
    """What is printed into a pipe."""
    output = io.StringIO()
    print_terminal(table, Console(file=output, force_terminal=False))
    return output.getvalue()


class _Padding:
    """Blanks for cells without brackets, marks or notes, so that the digits of a column are aligned."""

    def __init__(self, cells: list[CellText], brackets: bool) -> None:
        self.bracket = " " if brackets and any(cell.rank for cell in cells) else ""
        self.tail = max((len(cell.mark) + len(_notes(cell.notes)) for cell in cells), default=0)

    def missing(self, cell: CellText) -> str:
        """Blanks behind a number (no-break spaces, as rich cuts off ordinary ones at the end)."""
        return "\u00a0" * (self.tail - len(cell.mark) - len(_notes(cell.notes)))


def _text(cell: CellText, best: str, second: str, padding: _Padding) -> str:
    behind = padding.bracket if not cell.rank and (cell.spread or cell.range) else ""
    escaped = CellText(
        escape(cell.main) + behind, escape(cell.spread), escape(cell.range), cell.mark, cell.notes, cell.rank
    )
    return escaped.around(best, second) + _notes(cell.notes) + padding.missing(cell)


def _notes(marks: tuple[str, ...]) -> str:
    return " ".join(mark.translate(_SUPERSCRIPTS) for mark in marks if mark)


def _print_claims(table: Table, console: Console) -> None:
    if not table.claims:
        return
    grid = RichTable(title="Claims", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for header in CLAIM_HEADERS:
        grid.add_column(header, overflow="fold")
    for claim in table.claims:
        grid.add_row(*(escape(text) for text in claim_texts(claim)))
    console.print(grid)
