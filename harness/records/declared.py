"""Claims written down when an experiment is launched, so that a reader sees that they came before the results."""

from __future__ import annotations

from collections.abc import Mapping

from harness.records.launches import trial_ids
from harness.records.provenance import utc_now
from harness.records.schema import Declared, Manifest
from harness.records.store import MANIFEST, RecordStore


def declare_claims(store: RecordStore, manifest: Manifest, claims: Mapping[str, str]) -> Manifest:
    """The manifest with its claims and when each was first launched with.

    A claim that an earlier launch declared keeps its time; a changed claim has another id, so it is a new one. Claims
    that a launch no longer has stay in the manifest: they were made.

    Args:
        claims: id -> what is claimed.
    """
    known = store.manifest().claims if (store.path / MANIFEST).exists() else {}
    new = {claim: text for claim, text in claims.items() if claim not in known}
    if not new:
        return manifest.model_copy(update={"claims": known})
    num_finished = sum(store.trial(trial_id).summary() is not None for trial_id in trial_ids(manifest.arms))
    now = utc_now()
    added = {claim: Declared(text=text, at=now, num_finished=num_finished) for claim, text in new.items()}
    return manifest.model_copy(update={"claims": {**known, **added}})
