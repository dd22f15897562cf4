"""A table as plain rows, one a row of the table, and as a pandas data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.tables.model import Cell, Column, Table

if TYPE_CHECKING:
    import pandas as pd

_PARTS = ("", " sd", " n", " item_error", " low", " high", " difference", " p_adjusted", " rank")


def flat_rows(table: Table) -> tuple[list[str], list[list[Any]]]:
    """Column names, and a line a row: of a metric mean, sd, n, item error, interval, difference, adjusted p, rank.

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
    return [cell.value, cell.sd, cell.num_seeds, cell.item_error, low, high, *against, cell.rank]


def to_frame(table: Table) -> pd.DataFrame:
    """`flat_rows` as a pandas DataFrame, indexed by the rows' ids."""
    import pandas as pd

    names, lines = flat_rows(table)
    return pd.DataFrame(lines, columns=names).set_index("row")
