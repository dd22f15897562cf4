"""Decide which metrics stand under which column key; values, comparisons and columns are made from these plans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from harness.config.table import MetricSettings, TableSettings
from harness.metrics import scored_metric
from harness.statistics.samples import LARGEST
from harness.tables.cells import ResolvedMetric, resolve_metric
from harness.tables.layouts import default_metrics
from harness.tables.load import Loaded
from harness.tables.names import key_id
from harness.tables.pivot import Key, Pivot

ROUNDING = 1e-9  # of the largest mean: what is smaller is no spread
MEANS = {"trials_a_step": 1, "packing_gain": 2}  # decimals of numbers without a unit that are no counts


@dataclass(frozen=True)
class ColumnPlan:
    """One metric under one column key, from which its columns (value, delta ...) are made."""

    key: Key
    metric: ResolvedMetric
    entry: MetricSettings
    decimals: int

    @property
    def name(self) -> str:
        """The metric as it was asked for."""
        return self.entry.metric


def plan_columns(pivot: Pivot, settings: TableSettings, loaded: Loaded) -> list[ColumnPlan]:
    """The metrics under each column key. A metric that no trial under a key has is left out there."""
    entries = [
        MetricSettings(metric=entry) if isinstance(entry, str) else entry
        for entry in settings.metrics or default_metrics(loaded)
    ]
    trials = {key: [t for row in pivot.row_keys for t in pivot.trials(row, key)] for key in pivot.column_keys}
    found = {
        (key, entry.metric): [v for t in members if (v := t.metric(entry.metric)) is not None]
        for key, members in trials.items()
        for entry in entries
    }
    anywhere = {name for (_, name), values in found.items() if values}
    plans = []
    for key in pivot.column_keys:
        for entry in entries:
            values = found[key, entry.metric]
            if not values and (entry.metric in anywhere or not settings.metrics):
                continue
            metric = resolve_metric(entry.metric, trials[key], f"column {key_id(pivot.columns, key) or entry.metric}")
            of_rows = [[t.metric(entry.metric) for t in pivot.trials(row, key)] for row in pivot.row_keys]
            plans.append(ColumnPlan(key, metric, entry, _decimals(entry, metric, of_rows)))
    if len({(p.name, p.decimals) for p in plans}) > len({p.name for p in plans}):  # one precision a metric
        most = {p.name: max(q.decimals for q in plans if q.name == p.name) for p in plans}
        plans = [replace(plan, decimals=most[plan.name]) for plan in plans]
    return plans


def _decimals(entry: MetricSettings, metric: ResolvedMetric, rows: Sequence[Sequence[float | None]]) -> int:
    """The decimals of a metric's column.

    Args:
        rows: the values of each row's trials, as recorded.
    """
    if entry.decimals is not None:
        return entry.decimals
    if metric.concrete in MEANS:
        return MEANS[metric.concrete]
    cells = [found for row in rows if (found := [value for value in row if value is not None])]
    if not metric.metric.unit or metric.metric.unit == "MB":
        is_number = metric.concrete.endswith("/loss") or scored_metric(metric.concrete) is not None
        return _of_a_number(cells) if is_number else 0  # the others are counts
    smallest = min((value for cell in cells for value in cell if value > 0), default=1.0)
    return 2 if metric.name == "trainable_share" and smallest < 0.0005 else 1


def _of_a_number(cells: Sequence[Sequence[float]]) -> int:
    """Decimals of a loss or of a mean error in a unit of its own: 0.512 ± 0.004, 0.00012 ± 0.00001.

    At least three, and at most six: so many that the smallest mean has two significant digits, the smallest spread one.
    """
    finite = [cell for cell in cells if all(abs(value) < LARGEST for value in cell)]  # others are refused later
    means = [abs(fmean(cell)) for cell in finite]
    spreads = [stdev(cell) for cell in finite if len(cell) > 1]
    largest = max(means, default=0.0)
    wanted = [(2, mean) for mean in means] + [(1, spread) for spread in spreads]
    needed = [digits - math.floor(math.log10(size)) - 1 for digits, size in wanted if size > ROUNDING * largest]
    return min(6, max([3, *needed]))
