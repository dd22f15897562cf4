"""A table as JSON: everything that it knows, with full precision, so that it reads back into the same table."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.records.files import first_problem
from harness.tables.model import MODEL_VERSION, Table

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@cache
def _adapter() -> TypeAdapter[Table]:
    from pydantic import TypeAdapter

    return TypeAdapter(Table)


def render_json(table: Table) -> str:
    """Everything the table knows, with full precision: cells, comparisons, trials, footnotes, claims."""
    content = _adapter().dump_python(table, mode="json")
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(text: str | bytes, where: str = "table.json") -> Table:
    """The table that `render_json` wrote.

    Raises:
        UserError: it is not such a table, or of another version.
    """
    from pydantic import ValidationError

    try:
        table = _adapter().validate_json(text)
    except ValidationError as error:
        raise UserError(f"{where}: {first_problem(error)}") from error
    if table.version != MODEL_VERSION:
        raise UserError(f"{where}: version {table.version}, but this harness reads version {MODEL_VERSION}")
    return table
