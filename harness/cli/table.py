"""The command `harness table`."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UserError
from harness.records.store import RecordStore
from harness.tables.build import build_table

FORMATS = ("terminal", "md")


def table_command(name: str, results: Path, format: str, metrics: str | None) -> None:
    """Print an experiment's table.

    Raises:
        UserError: unknown experiment, format or metric.
    """
    chosen = None if metrics is None else tuple(item.strip() for item in metrics.split(",") if item.strip())
    if format not in FORMATS:
        raise UserError(f"--format {format!r}; choices: {', '.join(FORMATS)}")
    table = build_table(RecordStore(results, name), chosen)
    if format == "md":
        from harness.tables.render_markdown import render_markdown

        print(render_markdown(table), end="")
        return
    from harness.tables.render_terminal import print_terminal

    print_terminal(table)
