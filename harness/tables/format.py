"""Turn a table's numbers into text, in this one place, so that every format shows the same digits."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config.design import level_text
from harness.tables.model import Cell, Column, Footnote, HeaderCell, JudgedClaim, Table

MISSING_TEXT = "–"
SMALLEST_P = 0.001


@dataclass(frozen=True)
class CellText:
    """A cell as text, in parts that a format puts together: `main`, then `± spread` or ` [range]`, then marks.

    `notes` are marks of footnotes; `mark` is `*` for a significant difference.
    """

    main: str
    spread: str = ""
    range: str = ""
    mark: str = ""
    notes: tuple[str, ...] = ()
    rank: int | None = None

    @property
    def missing(self) -> bool:
        """Whether there is nothing to show."""
        return self.main == MISSING_TEXT

    @property
    def plain(self) -> str:
        """`54.6 ± 3.3*`."""
        return self.around("{}", "{}")

    def around(self, best: str, second: str, mark: str = "{}") -> str:
        """The text, with the mean formatted by `best` or `second` if it has that rank, and the mark by `mark`."""
        main = {1: best, 2: second}.get(self.rank or 0, "{}").format(self.main)
        spread = f" ± {self.spread}" if self.spread else ""
        bracket = f" {self.range}" if self.range and main else self.range
        return f"{main}{spread}{bracket}{mark.format(self.mark) if self.mark else ''}"


class Formatter:
    """Formats the cells of one table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._marked_elsewhere = {
            (column.groups, column.metric, column.arm)
            for column in table.columns
            if column.kind == "delta" and column.id.endswith(":delta")
        }

    def cell(self, cell: Cell, column: Column) -> CellText:
        """A cell as text."""
        if cell.missing:
            return CellText(MISSING_TEXT, notes=cell.footnotes)
        if cell.text is not None:
            return CellText(cell.text, notes=cell.footnotes)
        assert cell.value is not None
        if column.kind == "count":
            of = f"/{cell.num_planned}" if cell.uneven else ""
            return CellText(f"{cell.num_seeds}{of}", notes=cell.footnotes)
        if column.kind == "p_value":
            return CellText(format_p(cell.value), notes=cell.footnotes)
        if column.kind == "interval":
            return CellText(self._range(cell, column) or MISSING_TEXT, notes=cell.footnotes)
        signed = column.kind in ("delta", "relative")
        spread, bracket = self._spread(cell, column)
        return CellText(
            format_number(cell.value, column.decimals, signed=signed),
            spread,
            bracket,
            self._mark(cell, column),
            cell.footnotes,
            cell.rank,
        )

    def _spread(self, cell: Cell, column: Column) -> tuple[str, str]:
        """`3.3` to stand behind ±, or `[50.1, 59.0]`; costs that never vary have none."""
        if self.table.spread == "none" or column.kind not in ("value", "delta", "relative"):
            return "", ""
        if column.kind == "value" and column.direction is None and not column.bare and cell.sd == 0:
            return "", ""
        if self.table.spread == "sd" and cell.deterministic:
            known = cell.item_error is not None
            return "", f"(SE {format_number(cell.item_error or 0.0, column.decimals)})" if known else ""
        if self.table.spread == "sd" and cell.sd is not None:
            return format_number(cell.sd, column.decimals), ""
        if self.table.spread == "sd" and column.kind == "value" and not cell.uneven and cell.interval is None:
            return "", ""
        return "", self._range(cell, column)

    def _range(self, cell: Cell, column: Column) -> str:
        if cell.interval is None:
            return ""
        low, high = (format_number(end, column.decimals) for end in (cell.interval.low, cell.interval.high))
        return f"[{low}, {high}]"

    def _mark(self, cell: Cell, column: Column) -> str:
        if cell.comparison is None or cell.comparison.verdict == "unclear" or column.kind == "relative":
            return ""
        if column.kind == "value" and (column.groups, column.metric, column.arm) in self._marked_elsewhere:
            return ""
        return "*"


def format_number(value: float, decimals: int | None, *, signed: bool = False) -> str:
    """`12.3`, `1,234`, `+0.4`, never `-0.0`; without `decimals`, the shortest text that reads back as the number."""
    if decimals is None:
        return level_text(value)
    text = f"{value:{'+' if signed else ''},.{decimals}f}"
    return text.lstrip("-+") if text.strip("-+0.,") == "" else text


def format_p(p: float) -> str:
    """`0.012`, `<0.001`."""
    return f"<{SMALLEST_P:g}" if p < SMALLEST_P else f"{p:.3f}"


def legend(table: Table, best: str, second: str) -> tuple[Footnote, ...]:
    """The footnotes. The first one also says how this format marks the best means, if it marks any.

    A mark ranks what is printed and is no test: the best may lie within the noise of the second.
    """
    ranks = {cell.rank for _, _, cell in table}
    names = ((1, best, "best mean"), (2, second, "second best"))
    marks = [f"{mark}: {what}" for rank, mark, what in names if rank in ranks]
    if not table.footnotes or not marks:
        return table.footnotes
    first, *others = table.footnotes
    ranked = f"{', '.join(marks)} (a ranking of the printed means, no test)"
    return (Footnote(f"{first.text}; {ranked}", first.mark, first.kind), *others)


def common_header(table: Table) -> str:
    """The outermost header that stands above every column with a metric: `target WER (%) ↓`; empty if there is none."""
    metric_columns = [column for column in table.columns if column.metric is not None]
    found = {column.groups[0] if column.groups else "" for column in metric_columns}
    bare = any(column.bare for column in metric_columns)
    return found.pop() if len(found) == 1 and bare and len(metric_columns) > 1 else ""


def header_lines(table: Table, column: Column) -> tuple[str, ...]:
    """A column's headers for a format without spanning cells: groups, header, and `(unit) direction` on its own."""
    groups = column.groups[1:] if common_header(table) and column.metric is not None else column.groups
    return tuple(line for line in (*groups, column.header, column.measure) if line)


def header_rows(table: Table) -> tuple[tuple[HeaderCell, ...], ...]:
    """The header rows above the lowest one, without empty rows."""
    return tuple(row for row in table.header_rows if any(cell.text for cell in row))


CLAIM_HEADERS = ("claim", "verdict", "estimate", "declared")


def claim_texts(claim: JudgedClaim) -> tuple[str, str, str, str]:
    """A judged claim as text: what was claimed, the verdict, the estimate with its interval, when it was declared."""
    estimate = MISSING_TEXT
    if claim.estimate is not None:
        estimate = format_number(claim.estimate, 2, signed=True)
        if claim.interval is not None:
            low, high = (format_number(end, 2) for end in (claim.interval.low, claim.interval.high))
            estimate += f" [{low}, {high}]"
        estimate = f"{estimate} {claim.unit} (n = {claim.num_seeds})".replace("  ", " ")
    if claim.declared_at is None:
        declared = "not declared at launch"
    else:
        when = "before the first of its trials" if claim.before_results else "after trials had started"
        declared = f"{claim.declared_at[:16].replace('T', ' ')} UTC, {when}"
    return f"{claim.text} ({claim.statement})", claim.verdict, estimate, declared
