"""Compute a cell's numbers: mean, spread, relative reduction, rank; and which metric a column's name stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from harness.errors import UserError
from harness.metrics import PRIMARY_METRICS, Metric, describe_metric, scored_metric
from harness.statistics.seeds import summarise
from harness.tables.load import LoadedTrial
from harness.tables.model import Cell, TrialRef
from harness.tables.values import primary_name

NO_BEST = {  # costs and facts: the smallest is not "the best", so none is marked
    "trainable_parameters",
    "trainable_share",
    "seconds",
    "peak_memory_mb",
    "trials_a_step",
    "packing_gain",
    "best_epoch",
    "base_target_error",
    "base_source_error",
}
CUT_OFF = (
    "constrained_score",
    "original_scale",
)  # most of their values are exactly 0 or 100, which no test is made for


@dataclass(frozen=True)
class ResolvedMetric:
    """A column's metric: its name in the settings (`target_primary`), and what that stands for (`target_cer`)."""

    name: str
    concrete: str
    metric: Metric

    @property
    def scale(self) -> float:
        """From a record's fraction to the table's unit."""
        return 100.0 if self.metric.unit in ("%", "points") else 1.0

    @property
    def scored(self) -> bool:
        """Whether one value can be better than another (costs are only stated)."""
        return self.name not in NO_BEST

    @property
    def tested(self) -> bool:
        """Whether differences of it are tested."""
        return self.scored and self.name not in CUT_OFF

    @cached_property
    def has_error(self) -> bool:
        """Whether a value of it can be read as an error."""
        return scored_metric(self.concrete) is not None or self.concrete in ("target_error", "source_error")

    def error(self, value: float) -> float | None:
        """A value as an error in percent (100 minus an accuracy or F1); None where the metric has no error."""
        if not self.has_error:
            return None
        return value if self.metric.direction == "lower" else 100.0 - value


def resolve_metric(name: str, trials: Sequence[LoadedTrial], where: str) -> ResolvedMetric:
    """Find the metric that a name such as `target_primary` stands for in some trials.

    Raises:
        UserError: it would stand for several metrics at once (mixed units or directions).
    """
    concrete = {name}
    if name in PRIMARY_METRICS:
        concrete = {primary_name(name, trial.record) for trial in trials if trial.complete and trial.record}
    if len(concrete) > 1:
        described = ", ".join(f"{item} ({_direction(item)} is better)" for item in sorted(concrete))
        raise UserError(
            f"table: {where}: {name} mixes {described}; choices: a metric that all of them have, target_error, "
            "relative_gain"
        )
    single = concrete.pop() if concrete else name
    metric = describe_metric(single) or _validation_metric(single)
    if metric is None:
        raise UserError(f"table: unknown metric {name!r}")
    return ResolvedMetric(name, single, metric)


def _direction(name: str) -> str:
    metric = describe_metric(name)
    return "neither" if metric is None else metric.direction


def _validation_metric(name: str) -> Metric | None:
    """A validation metric (`valid_target/cer`, `valid_forgetting`), as a search records it."""
    bare = name.removeprefix("valid_")
    if bare == name:
        return None
    if bare.endswith("/loss"):
        return Metric("lower", "", "validation loss")
    known = describe_metric(bare.replace("/", "_"))
    return None if known is None else replace(known, meaning=f"validation: {known.meaning}")


def cell_of_values(refs: Sequence[TrialRef], values: Sequence[float], num_planned: int, level: float) -> Cell:
    """A cell from one value a seed, in the column's unit."""
    if not values:
        return Cell(num_planned=num_planned)
    summary = summarise(values, level)
    return Cell(
        value=summary.mean,
        sd=summary.sd,
        num_seeds=summary.count,
        num_planned=num_planned,
        interval=summary.interval,
        trials=tuple(refs),
        values=tuple(values),
    )


def by_seed(cell: Cell) -> dict[int, float]:
    """The values of a cell by seed."""
    return {ref.seed: value for ref, value in zip(cell.trials, cell.values, strict=True)}


def rank_cells(cells: Sequence[Cell], direction: str, decimals: int) -> list[Cell]:
    """Rank the best mean 1 and the second best 2; means that print the same share their rank.

    A lone cell has no rank; neither have cells that all print the same.
    """
    # What is printed decides: 71.04 and 70.96 both print as 71.0 and share a rank. `+ 0.0` turns -0.0 into 0.0.
    shown = [None if cell.value is None else round(cell.value, decimals) + 0.0 for cell in cells]
    distinct = sorted({value for value in shown if value is not None}, reverse=direction == "higher")
    if sum(value is not None for value in shown) < 2 or len(distinct) < 2:
        return list(cells)
    ranks = {value: number for number, value in enumerate(distinct[:2], start=1)}
    if shown.count(distinct[0]) > 1 or shown.count(distinct[1]) > 1:
        ranks.pop(distinct[1])  # after two bests the next one is third; several second bests are not marked
    return [
        replace(cell, rank=ranks.get(value)) if value is not None else cell
        for cell, value in zip(cells, shown, strict=True)
    ]
