"""The formats by name: each a function from a table to text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.errors import must_be_in
from harness.tables.model import Table
from harness.tables.plain_forms import render_csv, render_json
from harness.tables.render.html import html_page
from harness.tables.render.latex import render_latex
from harness.tables.render.markdown import render_markdown

FORMATS: Mapping[str, Callable[[Table], str]] = {
    "md": render_markdown,
    "tex": render_latex,
    "html": html_page,
    "csv": render_csv,
    "json": render_json,
}
CHOICES = ("terminal", *FORMATS)


def render(table: Table, format: str) -> str:
    """The table in a format that is text.

    Raises:
        UserError: there is no such format.
    """
    must_be_in(format, FORMATS, f"unknown format {format!r}")
    return FORMATS[format](table)
