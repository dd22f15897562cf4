"""Numbers over all tasks of a table at once: the interquartile mean, and the chance that an arm beats the baseline.

Both after Agarwal et al. 2021; see `harness.statistics.aggregates`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from harness.config.table import TableSettings
from harness.errors import UserError
from harness.seeding import rng
from harness.statistics.aggregates import aggregate_targets, compare_aggregates, probability_of_improvement
from harness.statistics.samples import Interval
from harness.tables.cells import by_seed, rank_cells
from harness.tables.columns import column_id
from harness.tables.model import Cell, Comparison, TrialRef
from harness.tables.pivot import Pivot
from harness.tables.plans import ColumnPlan
from harness.tables.seed_scores import SeedScores
from harness.tables.value_cells import ValueCells

Matrix = list[list[float]]


@dataclass(frozen=True)
class Scores:
    """The cells above the summary rows, column by column (`place`: the number of the column's plan)."""

    pivot: Pivot
    plans: tuple[ColumnPlan, ...]
    values: ValueCells
    settings: TableSettings

    def cells(self, place: int) -> list[Cell]:
        """A column's cells, a row each."""
        return [self.values.cells[number, place] for number in range(len(self.pivot.row_keys))]

    def scores(self, place: int) -> list[SeedScores]:
        """What a column's cells stand on, a row each."""
        return [self.values.scores[number, place] for number in range(len(self.pivot.row_keys))]

    def matrix(self, place: int) -> tuple[list[int], Matrix]:
        """The seeds that every row has, and a column's scores [seeds, rows]; empty where a row has none of them."""
        rows = [by_seed(cell) for cell in self.cells(place)]
        seeds = sorted(set.intersection(*(set(row) for row in rows)))
        return seeds, [[row[seed] for row in rows] for seed in seeds]

    def num_planned(self, place: int) -> int:
        """The most seeds that a row was planned with."""
        return max((cell.num_planned for cell in self.cells(place)), default=0)

    def refs(self, places: Sequence[int], seeds: Collection[int]) -> tuple[TrialRef, ...]:
        """The trials of some columns at some seeds."""
        cells = [cell for place in places for cell in self.cells(place)]
        return tuple(ref for cell in cells for ref in cell.trials if ref.seed in seeds)

    def baseline_of(self, place: int, what: str) -> int | None:
        """The baseline's column beside a column; None for the baseline's own, and where there is none.

        Raises:
            UserError: there is no baseline to look for; `what` needs one.
        """
        if self.settings.baseline is None or "arm" not in self.pivot.columns:
            raise UserError(f"table.summary: {what} needs arms as columns and a baseline")
        where = self.pivot.columns.index("arm")
        plan = self.plans[place]
        key = (*plan.key[:where], self.settings.baseline, *plan.key[where + 1 :])
        found = next((n for n, other in enumerate(self.plans) if other.key == key and other.name == plan.name), None)
        return None if found == place else found

    def ranked(self, made: list[Cell]) -> list[Cell]:
        """Rank the cells of a summary row like those of the rows above: among the arms, metric by metric."""
        if "arm" not in self.pivot.columns:
            return made
        where = self.pivot.columns.index("arm")
        groups: dict[tuple[object, ...], list[int]] = {}
        for place, plan in enumerate(self.plans):
            if plan.metric.scored:
                groups.setdefault((plan.name, *(p for n, p in enumerate(plan.key) if n != where)), []).append(place)
        for places in groups.values():
            plan = self.plans[places[0]]
            ranked = rank_cells([made[place] for place in places], plan.metric.metric.direction, plan.decimals)
            for place, cell in zip(places, ranked, strict=True):
                made[place] = cell
        return made

    def column(self, place: int) -> str:
        """The id of a column, by which its random draws are named."""
        return column_id(self.pivot, self.plans[place], "value")


def interquartile_cells(scores: Scores) -> list[Cell]:
    """The mean of the middle half of all scores; its difference from the baseline's where arms are columns."""
    level = scores.settings.level
    compared = scores.settings.baseline is not None and "arm" in scores.pivot.columns
    made = []
    for place in range(len(scores.plans)):
        seeds, matrix = scores.matrix(place)
        if not seeds:
            made.append(Cell(num_planned=scores.num_planned(place)))
            continue
        found = aggregate_targets(matrix, rng(0, "interquartile_mean", scores.column(place)), level=level)
        cell = Cell(found.value, None, len(seeds), scores.num_planned(place), found.interval)
        cell = replace(cell, trials=scores.refs([place], seeds))
        base = scores.baseline_of(place, "a difference") if compared else None
        made.append(cell if base is None else replace(cell, comparison=_difference(scores, place, base)))
    return scores.ranked(made)


def _difference(scores: Scores, place: int, base: int) -> Comparison | None:
    """The difference of two interquartile means, over the seeds that both columns have, resampled together."""
    own, other = (dict(zip(*scores.matrix(column), strict=True)) for column in (place, base))
    shared = sorted(own.keys() & other.keys())
    if not shared:
        return None
    draws = rng(0, "interquartile_mean", scores.column(place), "difference")
    pairs = [own[seed] for seed in shared], [other[seed] for seed in shared]
    found = compare_aggregates(*pairs, draws, level=scores.settings.level)
    return Comparison(str(scores.settings.baseline), len(shared), found.value, found.interval, why="not_tested")


def improvement_cells(scores: Scores) -> list[Cell]:
    """The chance in percent that a seed of the arm beats a seed of the baseline, on a row drawn at random."""
    made = []
    for place, plan in enumerate(scores.plans):
        base = scores.baseline_of(place, "a probability of improvement")
        if base is None or not plan.metric.scored:
            made.append(Cell())
            continue
        (seeds, own), (base_seeds, other) = scores.matrix(place), scores.matrix(base)
        if not seeds or not base_seeds:
            made.append(Cell(num_planned=scores.num_planned(place)))
            continue
        draws = rng(0, "probability_of_improvement", scores.column(place))
        direction = plan.metric.metric.direction
        found = probability_of_improvement(own, other, draws, direction, level=scores.settings.level)
        refs = (*scores.refs([place], seeds), *scores.refs([base], base_seeds))
        interval = None if found.interval is None else _percent(found.interval)
        made.append(Cell(100.0 * found.value, None, len(seeds), scores.num_planned(place), interval, trials=refs))
    return made


def _percent(interval: Interval) -> Interval:
    return replace(interval, low=100.0 * interval.low, high=100.0 * interval.high)
