"""Records written by hand, for tables whose every number can be worked out on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config.notes import Note
from harness.records.predictions import PredictedItem, prediction_lines
from harness.records.schema import Manifest, Provenance, Summary, TrialState
from harness.records.store import RecordStore

DomainTable = dict[str, dict[str, float]]
DomainTables = Mapping[str, tuple[DomainTable, DomainTable]]
Outcome = Mapping[str, float] | str | None  # metrics; "failed:nan" for a failed trial; None for a missing one


def text_metrics(accuracy: float, **others: float) -> dict[str, float]:
    """All metrics of a text trial, from its target accuracy."""
    return {
        "target_accuracy": accuracy,
        "target_macro_f1": accuracy - 0.1,
        "source_accuracy": 0.8,
        "source_macro_f1": 0.75,
        "forgetting": 0.0,
        "constrained_score": 0.5,
        "trainable_parameters": 1234.0,
        "trainable_share": 0.02,
        **others,
    }


def write_records(
    results: Path,
    arms: Mapping[str, Mapping[int, Outcome]],
    *,
    name: str = "mine",
    notes: Mapping[str, tuple[str, ...]] | None = None,
    corpus_of: Mapping[str, str] | None = None,
    config_of: Mapping[str, Mapping[str, Any]] | None = None,
    by_domain_of: DomainTables | None = None,
    items_of: Mapping[str, Mapping[str, Sequence[PredictedItem]]] | None = None,
    task: str | None = None,
    **manifest: Any,
) -> RecordStore:
    """Write an experiment's records: arm -> seed -> outcome.

    Args:
        notes, corpus_of: notes and corpus fingerprints by trial id (`ARM-SEED`).
        config_of: the config of each arm, seed aside.
        by_domain_of: trial id -> (base, by_domain) of its summary.
        items_of: trial id -> its test items by domain.
        task: what the records name as their task; older ones name none.
        manifest: further fields of the manifest.
    """
    store = RecordStore(results, name)
    ids = {arm: {seed: f"{arm}-{seed}" for seed in seeds} for arm, seeds in arms.items()}
    store.write_manifest(Manifest(**{"name": name, "description": "By hand", "arms": ids, **manifest}))
    for arm, seeds in arms.items():
        for seed, outcome in seeds.items():
            if outcome is None:
                continue
            trial_id = ids[arm][seed]
            folder = store.trial(trial_id)
            folder.start({**(config_of or {}).get(arm, {}), "seed": seed})
            if trial_id in (items_of or {}):
                (folder.path / "predictions.jsonl").write_bytes(prediction_lines((items_of or {})[trial_id]))
            folder.finish(
                _summary(trial_id, outcome, _data_notes((notes or {}).get(trial_id, ())), by_domain_of),
                provenance((corpus_of or {}).get(trial_id, "corpus"), task),
            )
    return store


def _data_notes(texts: tuple[str, ...]) -> tuple[Note, ...]:
    return tuple(Note("data", text) for text in texts)


def _summary(
    trial_id: str,
    outcome: Mapping[str, float] | str,
    notes: tuple[Note, ...],
    by_domain_of: DomainTables | None,
) -> Summary:
    if isinstance(outcome, str):
        state, _, reason = outcome.partition(":")
        return Summary(trial_id=trial_id, state=TrialState(state), reason=reason or None, message="why", notes=notes)
    base, by_domain = (by_domain_of or {}).get(trial_id, ({}, {}))
    return Summary(
        trial_id=trial_id,
        state=TrialState.COMPLETE,
        best_epoch=3,
        epochs_run=5,
        metrics=dict(outcome),
        base=base,
        by_domain=by_domain,
        costs={"seconds": 12.34, "peak_memory_mb": 1500.6},
        notes=notes,
    )


def provenance(corpus: str, task: str | None = None) -> Provenance:
    """What a record was made with, the same for all."""
    return Provenance(
        harness_version="0.1.0",
        git_commit=None,
        git_dirty=None,
        packages={},
        corpus_fingerprint=corpus,
        backbone_fingerprint="backbone",
        machine={},
        started_at="2026-01-01T00:00:00+00:00",
        finished_at="2026-01-01T00:01:00+00:00",
        num_starts=1,
        task=task,
    )
