"""Decide which metrics stand under which column key; values, comparisons and columns are made from these plans."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.config.table import MetricSettings, TableSettings
from harness.metrics import scored_metric
from harness.tables.cells import ResolvedMetric, resolve_metric
from harness.tables.layouts import default_metrics
from harness.tables.load import Loaded
from harness.tables.names import key_id
from harness.tables.pivot import Key, Pivot

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
            smallest = min((value for value in values if value > 0), default=1.0)
            plans.append(ColumnPlan(key, metric, entry, _decimals(entry, metric, smallest)))
    if len({(p.name, p.decimals) for p in plans}) > len({p.name for p in plans}):  # one precision a metric
        most = {p.name: max(q.decimals for q in plans if q.name == p.name) for p in plans}
        plans = [replace(plan, decimals=most[plan.name]) for plan in plans]
    return plans


def _decimals(entry: MetricSettings, metric: ResolvedMetric, smallest: float) -> int:
    if entry.decimals is not None:
        return entry.decimals
    if metric.concrete in MEANS:
        return MEANS[metric.concrete]
    if not metric.metric.unit or metric.metric.unit == "MB":
        is_number = metric.concrete.endswith("/loss") or scored_metric(metric.concrete) is not None
        return 3 if is_number else 0  # a loss or a mean error in a unit of its own; the others are counts
    return 2 if metric.name == "trainable_share" and smallest < 0.0005 else 1
