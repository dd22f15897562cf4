"""Find the items of the report's examples section for every arm, or the reason why none can be shown."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.checks.examples import Changes, find_changes
from harness.metrics import METRICS
from harness.records.task import normaliser_of, task_of
from harness.report.sources import Sources
from harness.tasks.references import ReferenceShelf


@dataclass(frozen=True)
class ExampleTexts:
    """Changed items by arm.

    Attributes:
        reason: why there are none; empty where there are.
        unit: `character` or `word` for transcripts, empty for classes.
        language: of the texts, where the domain's name says it (`it`).
    """

    reason: str
    changes: tuple[Changes, ...]
    unit: str = ""
    domain: str = ""
    language: str = ""


def find_examples(sources: Sources) -> ExampleTexts:
    """Compare every arm with the baseline on the target's test set.

    The records hold keys and predictions, not the sentences: those are shown only where the corpus is on this machine.

    Raises:
        UserError: a file of predictions is corrupt.
    """
    baseline, first = sources.baseline, next(sources.complete(), None)
    task = None if first is None else task_of(first[2])
    if baseline is None or first is None or task is None:
        return ExampleTexts("No trial is complete, so there is nothing to compare.", ())
    counted = None if (metric := task.item_metric()) is None else METRICS[metric].items
    if counted is None:
        return ExampleTexts("No metric of this task can be computed item by item, so items are not compared.", ())
    record = first[2]
    fingerprint = record.provenance.corpus_fingerprint if record.provenance is not None else None
    references = ReferenceShelf().find(record.config["data"], fingerprint, task, normaliser_of(record))
    if isinstance(references, str):
        return ExampleTexts(f"The sentences are not shown: {references}.", ())
    before = sources.predictions(baseline)
    if not before:
        return ExampleTexts(f"The records of the baseline, {baseline}, hold no predictions.", ())
    domain = str(record.config["data"]["target"])
    found = []
    for arm in sources.arms:
        if arm != baseline and (after := sources.predictions(arm)):
            changes = find_changes(references, domain, (arm, after), (baseline, before))
            if changes is not None:
                found.append(changes)
    if not found:
        return ExampleTexts(f"No arm shares a seed with the baseline, {baseline}.", ())
    language = domain if counted.unit is not None and re.fullmatch(r"[a-z]{2}", domain) else ""
    return ExampleTexts("", tuple(found), counted.unit or "", domain, language)
