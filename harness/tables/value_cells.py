"""Make the cells that hold metrics, with comparisons and ranks; every other cell of the table is made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.config.table import TableSettings
from harness.statistics.samples import Interval
from harness.statistics.seeds import summarise
from harness.tables.cells import ResolvedMetric, rank_cells
from harness.tables.comparisons import Difference, compare_differences, intervals_of
from harness.tables.model import Cell, TrialRef
from harness.tables.pivot import Key, Pivot
from harness.tables.plans import ColumnPlan
from harness.tables.seed_scores import ItemReader, SeedScores, error_reduction, same_for_every_seed, weighted_sum

CellKey = tuple[int | str, int]  # number of a row, or name of a mean over all rows, and number of a plan
Weights = Mapping[str, Sequence[float]]  # name of a mean -> the weight of each row
Family = tuple[object, ...]
# A place, and the metric that its baseline lacks; None where it has no baseline.
Unmatched = tuple[Key, ResolvedMetric | None]

# What the base model has by definition, so that it is no result to be ranked.
OF_THE_BASE = {"forgetting": 0.0, "constrained_score": 0.0, "relative_gain": 0.0, "original_scale": 100.0}


@dataclass(frozen=True)
class RowCount:
    """How many seeds a row stands on: those of the cell that lacks the greatest share of its planned seeds.

    `most` is the greatest number of finished seeds of any of its cells.
    """

    finished: int = 1
    planned: int = 1
    most: int = 1


@dataclass(frozen=True)
class ValueCells:
    """Cells by row and plan number, those of the means over all rows by the mean's name and plan number.

    Attributes:
        scores: what each cell's statistics stand on.
        row_counts: the seeds of each row; None of a row that no seed changes.
        num_tests: distinct tests that were corrected together.
        unmatched: where cells have no baseline beside them, and the metric, where it is this alone that it lacks.
        reductions: of each compared cell whose metric has errors, what its share of removed error stands on.
    """

    cells: dict[CellKey, Cell]
    scores: Mapping[CellKey, SeedScores]
    row_counts: tuple[RowCount | None, ...]
    num_tests: int = 0
    unmatched: tuple[Unmatched, ...] = ()
    reductions: Mapping[CellKey, SeedScores] = field(default_factory=dict)

    @property
    def rows_are_uneven(self) -> bool:
        """Whether the rows, or the cells of one, stand on different numbers of seeds, or on fewer than planned."""
        drawn = [count for count in self.row_counts if count is not None]
        numbers = {number for count in drawn for number in (count.finished, count.most)}
        return len(numbers) > 1 or any(count.finished < count.planned for count in drawn)


def make_value_cells(
    pivot: Pivot, plans: Sequence[ColumnPlan], settings: TableSettings, weights: Weights
) -> ValueCells:
    """All cells of all plans, and the means over their rows.

    Args:
        weights: of the rows, for each mean that the summary asks for.
    """
    scores, refs = _scores(pivot, plans, weights)
    families = _families(pivot, plans, scores)
    intervals = intervals_of(
        {
            key: (str(arm), name, scores[key])
            for name, arms in families.items()
            for arm, key in arms.items()
            if plans[key[1]].metric.tested
        },
        settings.level,
    )
    cells = {
        key: _cell(refs[key], found, plans[key[1]].metric, intervals, key, settings.level)
        for key, found in scores.items()
    }
    num_tests, unmatched, differences = 0, list[Unmatched](), dict[CellKey, Difference]()
    if settings.baseline is not None:
        differences, unmatched = _differences(pivot, families, scores, plans, settings.baseline)
        compared, num_tests = compare_differences(differences, level=settings.level, alpha=settings.alpha)
        for key, comparison in compared.items():
            cells[key] = replace(cells[key], comparison=comparison)
    _rank(pivot, plans, cells, families)
    counts = tuple(_row_count(pivot, row) for row in pivot.row_keys)
    reductions = {key: made.reduction for key, made in differences.items() if made.reduction is not None}
    return ValueCells(cells, scores, counts, num_tests, tuple(dict.fromkeys(unmatched)), reductions)


def _scores(
    pivot: Pivot, plans: Sequence[ColumnPlan], weights: Weights
) -> tuple[dict[CellKey, SeedScores], dict[CellKey, tuple[list[TrialRef], int]]]:
    """Each cell's scores; and its trials that have the metric, with the number of trials that were planned."""
    reader = ItemReader()
    scores: dict[CellKey, SeedScores] = {}
    refs: dict[CellKey, tuple[list[TrialRef], int]] = {}
    for place, plan in enumerate(plans):
        for number, row in enumerate(pivot.row_keys):
            trials = pivot.trials(row, plan.key)
            scores[number, place] = found = reader.scores(trials, plan.metric)
            refs[number, place] = [t.ref for t in trials if t.ref.seed in found.values], len(trials)
        for name, shares in weights.items():
            rows = [(share / sum(shares), scores[number, place]) for number, share in enumerate(shares)]
            scores[name, place] = found = weighted_sum(rows)
            own = [refs[number, place] for number, _ in enumerate(rows)]
            used = [ref for trials, _ in own for ref in trials if ref.seed in found.values]
            refs[name, place] = used, max(planned for _, planned in own)
    return scores, refs


def _cell(
    behind: tuple[list[TrialRef], int],
    scores: SeedScores,
    metric: ResolvedMetric,
    intervals: Mapping[CellKey, Interval | None],
    key: CellKey,
    level: float,
) -> Cell:
    refs, planned = behind
    if not scores.values:
        return Cell(num_planned=planned)
    summary = summarise([scores.values[seed] for seed in scores.seeds], level)
    one_each = isinstance(key[0], int)  # of a mean over rows, several trials have one seed
    values = [scores.values[ref.seed] for ref in refs] if one_each else [scores.values[s] for s in scores.seeds]
    fixed = scores.deterministic
    return Cell(
        value=summary.mean,
        sd=None if fixed else summary.sd,
        num_seeds=1 if fixed else summary.count,
        num_planned=1 if fixed else planned,
        interval=intervals.get(key, None if fixed else summary.interval),
        trials=tuple(refs),
        values=tuple(values),
        item_error=scores.item_error if metric.tested else None,
        deterministic=fixed,
    )


def _differences(
    pivot: Pivot,
    families: Mapping[Family, Mapping[str, CellKey]],
    scores: Mapping[CellKey, SeedScores],
    plans: Sequence[ColumnPlan],
    baseline: str,
) -> tuple[dict[CellKey, Difference], list[Unmatched]]:
    """The difference of every cell from the baseline's cell beside it; and where there is no such cell."""
    found: dict[CellKey, Difference] = {}
    unmatched: list[Unmatched] = []
    for name, arms in families.items():
        base = arms.get(baseline)
        if base is None or not scores[base].values:
            if all(isinstance(row, int) for row, _ in arms.values()):
                row, place = next(iter(arms.values()))
                there = isinstance(row, int) and pivot.has_finished(baseline, pivot.row_keys[row], plans[place].key)
                unmatched.append((name[:-1], plans[place].metric if there else None))
            continue
        for arm, key in arms.items():
            own, other, metric = scores[key], scores[base], plans[key[1]].metric
            if arm == baseline or not own.values:
                continue
            difference = weighted_sum([(1.0, own), (-1.0, other)])
            reduction = error_reduction(own, other, metric)
            found[key] = Difference(arm, name, metric, difference, baseline, name[:-1], reduction)
    return found, unmatched


def _row_count(pivot: Pivot, row: Key) -> RowCount | None:
    """The seeds of a row. None where no seed changes a cell."""
    cells = [pivot.trials(row, column) for column in pivot.column_keys]
    counts = [(sum(t.complete for t in c), len(c)) for c in cells if c and not same_for_every_seed(c)]
    if not counts:
        return None
    worst = min(counts, key=lambda count: (count[0] / count[1], count[0]))
    return RowCount(*worst, max(finished for finished, _ in counts))


def _families(
    pivot: Pivot, plans: Sequence[ColumnPlan], scores: Mapping[CellKey, SeedScores]
) -> dict[Family, dict[str, CellKey]]:
    """Cells that differ in their arm alone: (keys without the arm, metric) -> arm -> cell. Costs are left out."""
    families: dict[Family, dict[str, CellKey]] = {}
    for row, place in scores:
        plan = plans[place]
        key = pivot.row_keys[row] if isinstance(row, int) else (("summary", row),) * len(pivot.rows)
        arm = pivot.arm_of(key, plan.key)
        if arm is None or not plan.metric.scored:
            continue
        name = (*pivot.without_arm(key, plan.key), plan.name)  # as ("ro", "target_wer"): one comparison of arms
        families.setdefault(name, {})[arm] = (row, place)
    return families


def _rank(
    pivot: Pivot,
    plans: Sequence[ColumnPlan],
    cells: dict[CellKey, Cell],
    families: Mapping[Family, Mapping[str, CellKey]],
) -> None:
    """Rank the cells that are compared; without arms in rows or columns, all cells of a metric.

    What the base model has by definition (a forgetting of 0) is no result, so it has no rank.
    """
    groups: list[list[CellKey]] = [list(arms.values()) for arms in families.values()]
    if not families:
        names = {plan.name for plan in plans if plan.metric.scored}
        places = {name: [p for p, plan in enumerate(plans) if plan.name == name] for name in names}
        groups = [[(r, p) for r in range(len(pivot.row_keys)) for p in found] for found in places.values()]
    for group in groups:
        plan = plans[group[0][1]]
        given = OF_THE_BASE.get(plan.metric.concrete)
        keys = [key for key in group if not (cells[key].deterministic and cells[key].value == given)]
        ranked = rank_cells([cells[key] for key in keys], plan.metric.metric.direction, plan.decimals)
        cells.update(zip(keys, ranked, strict=True))
