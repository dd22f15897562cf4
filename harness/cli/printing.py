"""The two ways in which commands print rows: a grid with borders, and aligned lines that are easy to copy from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table as RichTable

from harness.errors import printable
from harness.tables.render.terminal import PIPE_WIDTH, escape


def open_console(console: Console | None = None) -> Console:
    """The terminal (or `console`); in a pipe it is as wide as a line needs, so that nothing is wrapped or cut."""
    console = console or Console()
    return console if console.is_terminal else Console(file=console.file, width=PIPE_WIDTH)


def make_grid(
    headers: Sequence[str], rows: Iterable[Sequence[str] | None], title: str | None = None, right: Sequence[str] = ()
) -> RichTable:
    """A grid. Long cells are folded, never cut, and brackets in a text are printed as they are.

    Args:
        rows: one text a header; None draws a line between two sections.
        right: the headers whose columns are set flush right.
    """
    grid = RichTable(title=None if title is None else escape(title), title_justify="left")
    for header in headers:
        grid.add_column(header, justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        if row is None:
            grid.add_section()
        else:
            grid.add_row(*map(escape, row))
    return grid


def print_aligned(rows: Sequence[Sequence[str]], indent: str = "") -> None:
    """Print rows with their columns under each other, without borders."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(printable(text).ljust(width) for text, width in zip(row, widths, strict=True))
        print(f"{indent}{line}".rstrip(), flush=True)
