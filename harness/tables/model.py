"""A table before it is rendered: rows, columns, cells with their statistics, footnotes, claims, provenance.

Every format is made from this one model, so all of them show the same numbers. A cell's numbers are in its column's
unit (percent, points, seconds), never the records' fractions. Nothing here reads a file; loads no pandas, no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.config.notes import NoteKind
from harness.metrics import Direction
from harness.statistics.samples import Interval

MODEL_VERSION = 1

ColumnKind = Literal["value", "delta", "relative", "count", "setting", "paper", "interval", "verdict", "p_value"]


@dataclass(frozen=True)
class TrialRef:
    """A trial behind a cell.

    Its record is among the experiment's `records`, or in `search` in the search phase.
    """

    experiment: str
    arm: str
    seed: int
    trial_id: str
    phase: Literal["confirm", "search"] = "confirm"


@dataclass(frozen=True)
class Comparison:
    """A cell against the baseline's cell, paired over the seeds that both have.

    Attributes:
        baseline: the arm compared with.
        num_pairs: the number of paired seeds; 1 where no seed changes either side.
        sd: sample sd of the paired differences; None below two pairs.
        difference: mean paired difference, this minus baseline, in the column's unit; None without a pair.
        interval: of the difference, for other seeds and other test items; None where there is no test, of length 0
            where every seed gives the same difference.
        seed_error, item_error: the standard errors of the difference that seeds and test items contribute; None where
            they are not known (one seed; records that hold no references). `error` is that of both, the median of its
            posterior, which the table's other comparisons share in.
        relative: the error removed, in percent of the baseline's error (WERR for error rates), by the ratio of the
            means; None where the metric has no error. `relative_interval` (delta method) is None without spread.
        p, p_adjusted: of the test; adjusted by Holm over the distinct tests of the table.
        effect_size: difference by sd over seeds (Hedges' g_z); None without spread.
        detectable: the smallest true difference that the table's first Holm step finds with 80 % power, column's unit.
        verdict: "better" or "worse" where p_adjusted is at most the table's alpha, in the metric's direction.
        why: why there is no test (`one_pair`, `identical`, `constant`, `no_pair`, `not_tested`); None where there is.
    """

    baseline: str
    num_pairs: int
    difference: float | None
    interval: Interval | None = None
    relative: float | None = None
    relative_interval: Interval | None = None
    p: float | None = None
    p_adjusted: float | None = None
    effect_size: float | None = None
    sd: float | None = None
    detectable: float | None = None
    verdict: Literal["better", "worse", "unclear"] = "unclear"
    why: str | None = None
    seed_error: float | None = None
    item_error: float | None = None
    error: float | None = None


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        value: the mean over seeds (or the plain number of a setting, the paper's number, a difference ...), in the
            column's unit; None where nothing was measured and in cells of text.
        sd: sample standard deviation over the seeds (n - 1); None below two seeds and where it means nothing.
        num_seeds, num_planned: seeds that the value stands on, and seeds that were planned.
        interval: of `value`, for other seeds and, where `item_error` is known, other test items.
        text: what a cell shows that is not a number (a setting such as `cosine`, a verdict).
        rank: 1 best, 2 second best of its column (or row, where the arms are columns); None where no rank is meant.
        comparison: with the baseline; None for the baseline itself, for costs and for settings.
        trials, values: the trials behind the cell (of a deterministic one, for each seed that the manifest names), and
            what each contributes, in the same order and in the unit. In
            a summary row `values` has one number a seed, and `trials` all trials that they are made from.
        footnotes: marks of the footnotes that are about this cell.
        item_error: standard error of `value` that is due to the choice of test items; None where it is not known.
        deterministic: nothing was trained, so that no seed changes `value`, and n is 1.
    """

    value: float | None = None
    sd: float | None = None
    num_seeds: int = 0
    num_planned: int = 0
    interval: Interval | None = None
    text: str | None = None
    rank: int | None = None
    comparison: Comparison | None = None
    trials: tuple[TrialRef, ...] = ()
    values: tuple[float, ...] = ()
    footnotes: tuple[str, ...] = ()
    item_error: float | None = None
    deterministic: bool = False

    @property
    def missing(self) -> bool:
        """Whether there is nothing to show."""
        return self.value is None and self.text is None

    @property
    def uneven(self) -> bool:
        """Whether it stands on fewer seeds than were planned."""
        return self.num_seeds < self.num_planned


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        id: unique in the table; what `--explain ROW COLUMN` takes (a metric's name, where that is unique).
        header: the lowest header, without direction and unit.
        groups: the headers above it, outermost first; neighbours with the same ones share one spanning cell.
        kind: what its cells are: `value` a metric's mean; `delta`, `relative` against the baseline; `count` seeds;
            `setting` a hyperparameter; `paper`, `interval`, `verdict` of a reference; `p_value`.
        metric: the metric behind it; None for counts and settings.
        unit: "%", "points", "s", "MB" or "".
        direction: which way is better; None where neither is (costs, counts, settings).
        decimals: decimals of every number in it; None shows a number as short as it reads back (settings).
        arm: the arm whose cells it holds, where arms are columns; else None.
        bare: its title is the header alone: unit and direction stand in a header above it.
        footnotes: marks of the footnotes that are about the whole column.
    """

    id: str
    header: str
    kind: ColumnKind = "value"
    groups: tuple[str, ...] = ()
    metric: str | None = None
    unit: str = ""
    direction: Direction | None = None
    decimals: int | None = 1
    arm: str | None = None
    bare: bool = False
    footnotes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The header with unit and direction: `target wer (%) ↓`."""
        return f"{self.header} {self.measure}".rstrip()

    @property
    def measure(self) -> str:
        """Unit and direction: `(%) ↓`; empty where there is neither, or both stand in a header above."""
        if self.bare:
            return ""
        arrow = {"higher": "↑", "lower": "↓", None: ""}[self.direction]
        return f"({self.unit}) {arrow}".strip() if self.unit else arrow


@dataclass(frozen=True)
class Row:
    """One row: its label, the row group that it stands in, and a cell for each column.

    `id` is unique in the table (the arm's name, the target's, or of a grid `lr=0.001, dim=32`); `kind` is `summary`
    for rows computed from the rows above (mean, weighted mean, relative reduction), which a rule sets apart.
    """

    id: str
    label: str
    cells: Mapping[str, Cell]
    group: str | None = None
    kind: Literal["data", "summary"] = "data"
    footnotes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Footnote:
    """A line under the table; `mark` is empty for one that is about the whole table."""

    text: str
    mark: str = ""
    kind: NoteKind = "method"


@dataclass(frozen=True)
class JudgedClaim:
    """A claim of the spec, judged.

    Attributes:
        id: its hash, the one that the manifest records when the experiment is launched.
        text: what is claimed, in words; `statement` is what was checked, spelt out.
        estimate, interval, unit: the number that decides, over `num_seeds` seeds.
        verdict: `upheld`: the whole interval lies where the claim says; `not upheld`: none of it does;
            `undecided`: it lies across.
        declared_at: when a launch first recorded it (ISO 8601, UTC); None if no launch did.
        before_results: whether that was before the first of its trials had started; False if it was never declared.
    """

    id: str
    text: str
    statement: str
    verdict: Literal["upheld", "not upheld", "undecided"]
    estimate: float | None
    interval: Interval | None
    unit: str
    num_seeds: int
    declared_at: str | None = None
    before_results: bool = False
    trials: tuple[TrialRef, ...] = ()


@dataclass(frozen=True)
class HeaderCell:
    """A cell of a header row: it spans `span` columns from `start`; empty text where nothing stands above a column."""

    text: str
    start: int
    span: int


@dataclass(frozen=True)
class Table:
    """A whole table.

    Attributes:
        name: for file names, labels and ids; `title`: the caption, one line.
        corner: the header of the row labels (`arm`, `target`, `lr`).
        spec: the table settings as they were resolved, so that the same table can be built again.
        experiments: the experiments whose records it is made from.
        baseline: the arm that others are compared with.
        alpha: the level of the significance marks.
        spread: what stands behind `±`: sample sd, or half of the interval; or nothing.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    corner: str = "arm"
    footnotes: tuple[Footnote, ...] = ()
    claims: tuple[JudgedClaim, ...] = ()
    experiments: tuple[str, ...] = ()
    baseline: str | None = None
    alpha: float = 0.05
    spread: Literal["sd", "interval", "none"] = "sd"
    spec: Mapping[str, Any] = field(default_factory=dict)
    version: int = MODEL_VERSION

    def row(self, row_id: str) -> Row:
        """A row by its id.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if row.id == row_id:
                return row
        raise KeyError(row_id)

    def column(self, column_id: str) -> Column:
        """A column by its id.

        Raises:
            KeyError: there is none.
        """
        for column in self.columns:
            if column.id == column_id:
                return column
        raise KeyError(column_id)

    def cell(self, row_id: str, column_id: str) -> Cell:
        """A cell by the ids of its row and column.

        Raises:
            KeyError: there is none.
        """
        return self.row(row_id).cells[column_id]

    def __iter__(self) -> Iterator[tuple[Row, Column, Cell]]:
        """Every cell with its row and column, row by row."""
        for row in self.rows:
            for column in self.columns:
                yield row, column, row.cells[column.id]

    @property
    def header_rows(self) -> tuple[tuple[HeaderCell, ...], ...]:
        """The header rows above the lowest one, outermost first; each covers all columns, groups as one wide cell."""
        depth = max((len(column.groups) for column in self.columns), default=0)
        rows = []
        for level in range(depth):
            cells: list[HeaderCell] = []
            previous: tuple[str, ...] | None = None
            for number, column in enumerate(self.columns):
                path = column.groups[: level + 1] if len(column.groups) > level else None
                if path is not None and path == previous:
                    last = cells.pop()
                    cells.append(HeaderCell(last.text, last.start, last.span + 1))
                else:
                    cells.append(HeaderCell(path[-1] if path else "", number, 1))
                previous = path
            rows.append(tuple(cells))
        return tuple(rows)

    @property
    def row_groups(self) -> tuple[tuple[str | None, tuple[Row, ...]], ...]:
        """Rows by group, in order; a group that comes back later is a group of its own."""
        groups: list[tuple[str | None, list[Row]]] = []
        for row in self.rows:
            if not groups or groups[-1][0] != row.group:
                groups.append((row.group, []))
            groups[-1][1].append(row)
        return tuple((name, tuple(rows)) for name, rows in groups)
