"""A table on the terminal, through rich."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from harness.tables.build import Table
from harness.tables.render_markdown import format_cell, legend, num_seeds

PIPE_WIDTH = 10_000  # columns: a log or a file has no right edge at which to wrap


def print_terminal(table: Table, console: Console | None = None) -> None:
    """Print the table; in a pipe it is as wide as it needs to be."""
    console = console or Console()
    best, mark = "[bold]{}[/bold]", "bold"
    if not console.is_terminal:
        console = Console(file=console.file, width=PIPE_WIDTH)
        best, mark = "*{}", "*"  # a pipe shows no bold
    grid = RichTable(title=escape(table.title), title_justify="left", caption=None)
    grid.add_column("arm", overflow="fold")
    grid.add_column("n", justify="right", no_wrap=True)
    for column in table.columns:
        grid.add_column(escape(column.header), justify="right", overflow="fold")  # never a number cut short
    for arm, cells in table.cells.items():
        shown = [format_cell(cells[column.metric], column, best) for column in table.columns]
        grid.add_row(escape(arm), str(num_seeds(cells)), *shown)
    console.print(grid)
    for note in legend(table, mark):
        console.print(f"  {escape(note)}", highlight=False)
