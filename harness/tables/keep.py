"""The table that a launch leaves beside the records: table.md (to read) and table.json (to check)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.disk import write_atomically
from harness.errors import UserError
from harness.records.store import RecordStore
from harness.tables.build import build_table
from harness.tables.effects import IncompleteDesignError
from harness.tables.load import any_finished
from harness.tables.model import Table
from harness.tables.render.formats import FORMATS, render


@dataclass(frozen=True)
class Kept:
    """The table that was kept; or why there is none, in a line, and whether that is a fault (of its settings, say)."""

    table: Table | None = None
    reason: str | None = None
    is_fault: bool = False


def keep_if_possible(store: RecordStore) -> Kept:
    """Keep the table if any trial is finished and it can be made; what was trained counts even where it cannot.

    Effects of a design need all of it: after a launch of some arms, or one in which some failed, there are none yet.

    Raises:
        UserError: the experiment has not been run, or the file of a record is corrupt.
    """
    if not any_finished(store):
        return Kept()
    try:
        table = build_table(store)
    except IncompleteDesignError as incomplete:
        return Kept(None, f"no table yet: {incomplete}; harness table {store.name} --layout arms shows the arms alone")
    except UserError as error:
        return Kept(None, f"no table: {error}", is_fault=True)
    keep_table(table, store.path)
    return Kept(table)


def keep_table(table: Table, folder: Path) -> None:
    """Write table.md and table.json, each only if it changed."""
    for name in ("md", "json"):
        path = folder / FORMATS[name].file_name
        text = render(table, name).encode()
        if not path.exists() or path.read_bytes() != text:
            write_atomically(path, text)
