"""The formats of a table, by name. A new one is a file beside this one and a line in `FORMATS`.

Commands take their choices from here, `verify` renders a published `table.SUFFIX` again to compare it. A renderer is
named, not imported: the choices can be listed without loading any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from harness.errors import UserError, must_be_in

if TYPE_CHECKING:
    from harness.tables.model import Table

HERE = "harness.tables.render"


@dataclass(frozen=True)
class Format:
    """A format: `render` makes its text from a table, the same text from the same table.

    Attributes:
        suffix: of its files, without the dot; each format has its own.
        renderer: `FILE:FUNCTION` in this folder; the function takes a table and gives text.
        standalone: likewise, of a document that can be used alone; None where there is none (or the text is one).
        reader: likewise, from text and the file's name to the table; None where the text cannot be read back.
    """

    suffix: str
    renderer: str
    standalone: str | None = None
    reader: str | None = None

    @property
    def file_name(self) -> str:
        """The file in a results folder that holds the table in this format."""
        return f"table.{self.suffix}"

    @cached_property
    def render(self) -> Callable[[Table], str]:
        """From a table to text."""
        return _function(self.renderer)

    @cached_property
    def render_alone(self) -> Callable[[Table], str]:
        """From a table to a complete document; the same as `render` if that gives one already."""
        return _function(self.standalone or self.renderer)

    @cached_property
    def read(self) -> Callable[[str, str], Table] | None:
        """From text (and a file's name, for messages) back to the table."""
        if self.reader is None:
            return None
        found: Callable[[str, str], Table] = resolve_name(f"{HERE}.{self.reader}")
        return found


def _function(name: str) -> Callable[[Table], str]:
    found: Callable[[Table], str] = resolve_name(f"{HERE}.{name}")
    return found


FORMATS: Mapping[str, Format] = {
    "terminal": Format("txt", "terminal:render_terminal"),
    "md": Format("md", "markdown:render_markdown"),
    "tex": Format("tex", "latex:render_latex", standalone="latex:latex_document"),
    "html": Format("html", "html:html_page"),
    "csv": Format("csv", "csv:render_csv"),
    "json": Format("json", "json:render_json", reader="json:read_json"),
}


STANDALONE = {name: format for name, format in FORMATS.items() if format.standalone is not None}


def format_for(name: str | None, file: str | None) -> str:
    """The format to use: the given name, else the one of the file's suffix, else `terminal`.

    Raises:
        UserError: there is no such format, or none with the file's suffix.
    """
    if name is not None:
        must_be_in(name, FORMATS, f"--format {name!r}")
        return name
    if file is None:
        return "terminal"
    found = next((known for known, format in FORMATS.items() if file.endswith(f".{format.suffix}")), None)
    if found is None:
        suffixes = ", ".join(f".{format.suffix}" for format in FORMATS.values())
        raise UserError(f"--out {file}: no format has its suffix; name one with --format, or use one of {suffixes}")
    return found


def render(table: Table, format: str, standalone: bool = False) -> str:
    """The table as text.

    Args:
        format: a name in `FORMATS`.
        standalone: a document of its own, in a format that has one.

    Raises:
        UserError: there is no such format, or it has no standalone form.
    """
    must_be_in(format, FORMATS, f"unknown format {format!r}")
    if not standalone:
        return FORMATS[format].render(table)
    must_be_in(format, STANDALONE, f"--standalone: {format} has no document of its own")
    return STANDALONE[format].render_alone(table)
