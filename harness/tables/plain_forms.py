"""A table as plain data: JSON that reads back into the same table, CSV and a data frame with one line a row."""

from __future__ import annotations

import csv
import io
import json
from functools import cache
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.tables.model import MODEL_VERSION, Cell, Column, Table

if TYPE_CHECKING:
    import pandas as pd
    from pydantic import TypeAdapter


@cache
def _adapter() -> TypeAdapter[Table]:
    from pydantic import TypeAdapter

    return TypeAdapter(Table)


def render_json(table: Table) -> str:
    """Everything the table knows, with full precision: cells, comparisons, trials, footnotes, claims."""
    content = _adapter().dump_python(table, mode="json")
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def parse_json(text: str | bytes, where: str = "table.json") -> Table:
    """The table that `render_json` wrote.

    Raises:
        UserError: it is not such a table, or of another version.
    """
    from pydantic import ValidationError

    try:
        table = _adapter().validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        place = "".join(f"{part}: " for part in problem["loc"])
        raise UserError(f"{where}: {place}{problem['msg']}") from error
    if table.version != MODEL_VERSION:
        raise UserError(f"{where}: version {table.version}, but this harness reads version {MODEL_VERSION}")
    return table


_PARTS = ("", " sd", " n", " low", " high", " difference", " p_adjusted", " rank")


def flat_rows(table: Table) -> tuple[list[str], list[list[Any]]]:
    """Column names, and a line for each row: of a metric the mean, sd, n, interval, difference, adjusted p and rank.

    Numbers have full precision, in the unit that `Column.unit` says; None where there is none.
    """
    names = ["row", "label", "group"]
    for column in table.columns:
        names += [f"{column.id}{part}" for part in _parts(column)]
    lines = []
    for row in table.rows:
        line: list[Any] = [row.id, row.label, row.group]
        for column in table.columns:
            line += _values(row.cells[column.id], column)
        lines.append(line)
    return names, lines


def _parts(column: Column) -> tuple[str, ...]:
    if column.kind in ("value", "delta", "relative"):
        return _PARTS
    return ("", " low", " high") if column.kind == "interval" else ("",)


def _values(cell: Cell, column: Column) -> list[Any]:
    low, high = (None, None) if cell.interval is None else (cell.interval.low, cell.interval.high)
    if column.kind == "interval":
        return [cell.value, low, high]
    if column.kind == "count":
        return [cell.num_seeds]
    if column.kind not in ("value", "delta", "relative"):
        return [cell.value if cell.value is not None else cell.text]
    comparison = cell.comparison
    against = (None, None) if comparison is None else (comparison.difference, comparison.p_adjusted)
    return [cell.value, cell.sd, cell.num_seeds, low, high, *against, cell.rank]


def render_csv(table: Table) -> str:
    """`flat_rows` as CSV (RFC 4180, but with \\n); empty where there is none."""
    names, lines = flat_rows(table)
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([["" if value is None else _exact(value) for value in line] for line in lines])
    return output.getvalue()


def _exact(value: Any) -> Any:
    return repr(value) if isinstance(value, float) else value


def to_frame(table: Table) -> pd.DataFrame:
    """`flat_rows` as a pandas DataFrame, indexed by the rows' ids."""
    import pandas as pd

    names, lines = flat_rows(table)
    return pd.DataFrame(lines, columns=names).set_index("row")
