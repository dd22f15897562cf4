"""A table as CSV: a line a row, every number with full precision, no text that a spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import io
from typing import Any

from harness.tables.model import Table
from harness.tables.plain_forms import flat_rows


def render_csv(table: Table) -> str:
    """`flat_rows` as CSV (RFC 4180, but with \\n); empty where there is none."""
    names, lines = flat_rows(table)
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow([_exact(name) for name in names])
    writer.writerows([["" if value is None else _exact(value) for value in line] for line in lines])
    return output.getvalue()


def _exact(value: Any) -> Any:
    if isinstance(value, float):
        return repr(value)
    # A spreadsheet takes a text that begins so for a formula, and runs it; behind an apostrophe it is a text.
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
