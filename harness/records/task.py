"""Find the task of a record: its provenance names it; the metrics of older records tell it."""

from __future__ import annotations

from harness.records.schema import Record
from harness.tasks.registry import find_task, task_with_metrics
from harness.tasks.task import WholeTask


def task_of(record: Record) -> type[WholeTask] | None:
    """The task of a record; None if it neither names one nor has metrics of one (the training failed at once).

    Raises:
        UserError: it names a task that this version does not have.
    """
    if record.provenance is not None and record.provenance.task is not None:
        return find_task(record.provenance.task, f"record {record.trial_id}")
    summary = record.summary
    scores = {name for metrics in summary.by_domain.values() for name in metrics}
    return task_with_metrics(scores | summary.metrics.keys()) or task_with_metrics(summary.valid)


def normaliser_of(record: Record) -> str | None:
    """The normaliser of a record's transcripts; None: latin28, or a task without any."""
    return None if record.provenance is None else record.provenance.normaliser


def primary_of(record: Record) -> str | None:
    """The primary metric of a record's task, which selection, forgetting and the score use; None without a task."""
    task = task_of(record)
    return None if task is None else task.primary
