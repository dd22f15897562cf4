"""The table that a launch leaves beside the records: table.md (to read) and table.json (to check)."""

from __future__ import annotations

from pathlib import Path

from harness.disk import write_atomically
from harness.tables.model import Table
from harness.tables.render.formats import FORMATS, render


def keep_table(table: Table, folder: Path) -> None:
    """Write table.md and table.json, each only if it changed."""
    for name in ("md", "json"):
        path = folder / FORMATS[name].file_name
        text = render(table, name).encode()
        if not path.exists() or path.read_bytes() != text:
            write_atomically(path, text)
