"""A record's task: named in its provenance, or told by its metrics where it is older than that."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import UserError
from harness.records.schema import Provenance, Record, Summary, TrialState
from harness.records.task import primary_of, task_of
from harness.tasks.registry import TASKS, name_of_task

PROVENANCE: dict[str, Any] = {
              "harness_version": "0.1", "git_commit": None, "git_dirty": None, "packages": {}, "machine": {},
              "corpus_fingerprint": "c", "backbone_fingerprint": "b", "started_at": "", "finished_at": "",
              "num_starts": 1}  # fmt: skip


def record(task: str | None = None, **numbers: Any) -> Record:
    provenance = Provenance.model_validate(PROVENANCE | ({} if task is None else {"task": task}))
    summary = Summary(trial_id="t", state=TrialState.COMPLETE, **numbers)
    return Record(trial_id="t", config={}, summary=summary, provenance=provenance)


@pytest.mark.parametrize("name", TASKS)
def test_a_record_names_its_task(name: str) -> None:
    """Whatever its metrics are: two tasks may share theirs."""
    made = record(name, metrics={f"target_{other.primary}": 0.5 for other in TASKS.values()})
    assert task_of(made) is TASKS[name] and primary_of(made) == TASKS[name].primary


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"metrics": {"target_macro_f1": 0.5, "forgetting": 0.1}}, "text_classification"),
        ({"by_domain": {"it": {"cer": 0.5, "wer": 0.5}}}, "ctc"),
        ({"metrics": {"trainable_share": 0.1}, "valid": {"valid_source/cer": 0.5}}, "ctc"),
    ],
)
def test_an_older_record_is_told_by_its_metrics(numbers: dict[str, Any], expected: str) -> None:
    task = task_of(record(**numbers))
    assert task is not None and name_of_task(task) == expected


def test_no_task_and_an_unknown_one() -> None:
    assert task_of(record()) is None and primary_of(record()) is None
    with pytest.raises(UserError, match=r"^record t: no task 'gone'; choices: text_classification, .*ctc"):
        task_of(record("gone"))
