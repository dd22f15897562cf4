"""Make the cells that hold metrics, with comparisons and ranks; every other cell of the table is made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.config.table import TableSettings
from harness.tables.cells import CellKey, compare_cells, make_cell, rank_cells
from harness.tables.model import Cell
from harness.tables.pivot import Key, Pivot
from harness.tables.plans import ColumnPlan


@dataclass(frozen=True)
class ValueCells:
    """Cells by row and plan number; `row_counts` are finished and planned seeds of each row.

    `num_tests` were corrected together; `unmatched` says where cells have no baseline beside them.
    """

    cells: dict[CellKey, Cell]
    row_counts: tuple[tuple[int, int], ...]
    num_tests: int = 0
    unmatched: tuple[Key, ...] = ()

    @property
    def rows_are_uneven(self) -> bool:
        """Whether the rows stand on different numbers of seeds, or on fewer than planned."""
        return len({count for count, _ in self.row_counts}) > 1 or any(n < planned for n, planned in self.row_counts)


def make_value_cells(pivot: Pivot, plans: Sequence[ColumnPlan], settings: TableSettings) -> ValueCells:
    """All cells of all plans."""
    cells: dict[CellKey, Cell] = {}
    for number, row in enumerate(pivot.row_keys):
        for place, plan in enumerate(plans):
            cells[number, place] = make_cell(pivot.trials(row, plan.key), plan.metric, settings.level)
    counts = tuple(_row_count(pivot, row) for row in pivot.row_keys)
    families = _families(pivot, plans, cells)
    num_tests, unmatched = 0, []
    if settings.baseline is not None:
        matched = {}
        for name, arms in families.items():
            base = arms.get(settings.baseline)
            if base is None or cells[base].missing:
                unmatched.append(name[:-1])
            else:
                matched[repr(name)] = arms
        compared, num_tests = compare_cells(
            matched,
            cells,
            lambda place: plans[place].metric,
            settings.baseline,
            level=settings.level,
            alpha=settings.alpha,
        )
        for key, comparison in compared.items():
            cells[key] = replace(cells[key], comparison=comparison)
    _rank(pivot, plans, cells, families)
    return ValueCells(cells, counts, num_tests, tuple(dict.fromkeys(unmatched)))


def _row_count(pivot: Pivot, row: Key) -> tuple[int, int]:
    """Finished and planned seeds of a row: the fewest and the most of its cells."""
    cells = [pivot.trials(row, column) for column in pivot.column_keys]
    planned = [cell for cell in cells if cell]
    return min(sum(t.complete for t in cell) for cell in planned), max(len(cell) for cell in planned)


def _families(
    pivot: Pivot, plans: Sequence[ColumnPlan], cells: dict[CellKey, Cell]
) -> dict[tuple[object, ...], dict[str, CellKey]]:
    """Cells that differ in their arm alone: (keys without the arm, metric) -> arm -> cell. Costs are left out."""
    families: dict[tuple[object, ...], dict[str, CellKey]] = {}
    for number, row in enumerate(pivot.row_keys):
        for place, plan in enumerate(plans):
            arm = pivot.arm_of(row, plan.key)
            if arm is None or not plan.metric.scored:
                continue
            name = (*pivot.without_arm(row, plan.key), plan.name)  # as ("ro", "target_wer"): one comparison of arms
            families.setdefault(name, {})[arm] = (number, place)
    return families


def _rank(
    pivot: Pivot,
    plans: Sequence[ColumnPlan],
    cells: dict[CellKey, Cell],
    families: dict[tuple[object, ...], dict[str, CellKey]],
) -> None:
    """Rank the cells that are compared; without arms in rows or columns, all cells of a metric."""
    groups = [list(arms.values()) for arms in families.values()]
    if not families:
        names = {plan.name for plan in plans if plan.metric.scored}
        places = {name: [p for p, plan in enumerate(plans) if plan.name == name] for name in names}
        groups = [[(r, p) for r in range(len(pivot.row_keys)) for p in found] for found in places.values()]
    for keys in groups:
        plan = plans[keys[0][1]]
        ranked = rank_cells([cells[key] for key in keys], plan.metric.metric.direction, plan.decimals)
        cells.update(zip(keys, ranked, strict=True))
