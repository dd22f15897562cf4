"""Check that the results are those that were launched: the digests, the plans of the launches, no record left aside.

digests     every record, and the files that say what was launched, have the SHA-256 that digests.json has
plan        arms, seeds and table settings are those of the last launch; what earlier ones had more is told in a note
records     a row or a launch uses every record; every arm has the same seeds
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.dependency_checks import with_needed
from harness.checks.findings import Findings
from harness.errors import UserError, first_line
from harness.records.digests import DIGESTS, Digests, file_digests, key_of, read_digests, record_digest
from harness.records.launches import differences, launch_notes, trial_ids
from harness.records.packed import FOLDERS
from harness.records.schema import Manifest, Record
from harness.records.store import MANIFEST, RecordStore
from harness.records.trial_folder import TrialFolder


def check_launched(store: RecordStore, manifest: Manifest | None, findings: Findings) -> Digests | None:
    """All checks of this file; `manifest` is None for a sweep before its confirm phase. Returns the digests, if any."""
    finished = {key_of(folder): folder for kind in FOLDERS for folder in store.finished(kind)}
    if manifest is not None:
        check_plan(manifest, findings)
        check_unused(store, manifest, finished, findings)
    try:
        digests = read_digests(store)
    except UserError as error:
        findings.check(False, "", DIGESTS, first_line(error))
        return None
    if digests is not None:
        check_digests(store, digests, finished, findings)
    elif manifest is not None and manifest.launches:
        findings.check(False, "", DIGESTS, f"it is missing, though the launches in {MANIFEST} have written it")
    else:
        findings.skip(f"digests of the records: there is no {DIGESTS}; `harness publish` takes them from now on")
    return digests


def check_digests(
    store: RecordStore, digests: Digests, finished: Mapping[str, TrialFolder], findings: Findings
) -> None:
    """Check every digest of digests.json, and the one over all of them."""
    findings.check(
        digests.experiment == digests.whole, "the experiment has its digest", DIGESTS,
        f"the experiment's digest is {digests.experiment[:12]}, but the digests in it give {digests.whole[:12]}",
    )  # fmt: skip
    here = file_digests(store)
    for name in dict.fromkeys([*digests.files, *here]):
        found, expected = here.get(name), digests.files.get(name)
        has = "it is missing" if found is None else f"it was changed or made elsewhere: it has SHA-256 {found[:12]}"
        findings.check(found == expected, "files have the digest that was taken", name,
                       f"{has}, {DIGESTS} says {'nothing of it' if expected is None else expected[:12]}")  # fmt: skip
    for key, expected in digests.records.items():
        if key not in finished:
            findings.check(False, "", key, f"{DIGESTS} has its digest, but there is no such record any more")
            continue
        try:
            found = record_digest(finished[key])
        except UserError as error:
            findings.check(False, "", key, first_line(error))
            continue
        findings.check(
            found == expected, "records have the digest that was taken", key,
            f"the record was changed: its files have the digest {found[:12]}, {DIGESTS} says {expected[:12]}",
        )  # fmt: skip
    without = sorted(finished.keys() - digests.records.keys())
    if without:
        findings.skip(f"digests of {len(without)} records, {without[0]} first: their launch has not ended")
    for taken in digests.taken:
        if taken.by == "later":
            findings.skip(
                f"{len(taken.records)} records before {taken.at}: their digests were taken then, not when they were "
                "made, so they cannot tell earlier changes"
            )


def check_plan(manifest: Manifest, findings: Findings) -> None:
    """Check the manifest against the plans of its launches."""
    if not manifest.launches:
        findings.skip("arms, seeds and table settings against the launch: this result is older than launches are noted")
        return
    drifts = list(differences(manifest.launches[-1], manifest))
    for place, now, launched in drifts:
        findings.check(False, "", f"{MANIFEST}, {place}", f"it is {now!r}, but {launched!r} was launched")
    if not drifts:
        num_trials = sum(map(len, manifest.arms.values()))
        findings.held["arms, seeds and table settings are those of the launch"] += num_trials
    for note in launch_notes(manifest):
        findings.check(
            note in manifest.notes, "what earlier launches had is told", MANIFEST,
            f"it lacks the note that {note.text!r}",
        )  # fmt: skip


def check_unused(
    store: RecordStore, manifest: Manifest, finished: Mapping[str, TrialFolder], findings: Findings
) -> None:
    """Check that a row, or else an earlier launch, uses every record of the table, if only for its weights."""
    known = with_needed(store, trial_ids(manifest.arms, *(launch.arms for launch in manifest.launches)))
    for key, folder in finished.items():
        if key.startswith("records/"):
            findings.check(folder.trial_id in known, "every record belongs to a row or to an earlier launch", key,
                           "no row of the table uses this record, and no launch has it")  # fmt: skip


def check_seeds(manifest: Manifest, records: Mapping[str, Record], findings: Findings) -> None:
    """Check that all arms have the same seeds; one that trains nothing may have fewer, as its seeds are all alike.

    Args:
        records: trial id -> record, of those that could be read.
    """
    everywhere = {seed for seeds in manifest.arms.values() for seed in seeds}
    for arm, seeds in manifest.arms.items():
        trained = [records[i].config.get("train") != "none" for i in seeds.values() if i in records]
        if trained and not any(trained):
            continue
        missing = sorted(everywhere - seeds.keys())
        findings.check(not missing, "arms have the same seeds", f"{MANIFEST}, {arm}",
                       f"it lacks seeds that other arms have: {', '.join(map(str, missing))}")  # fmt: skip


def check_notes(
    record: Record, place: str, of_corpus: tuple[str, ...], digests: Digests | None, findings: Findings
) -> None:
    """Check that a record tells what its corpus has to tell. Where its digest was taken at the launch, that says more.

    Args:
        of_corpus: the notes of the corpus, as it is here.
    """
    at_launch = (
        set() if digests is None else {k for taken in digests.taken if taken.by == "launch" for k in taken.records}
    )
    if f"records/{record.trial_id}" in at_launch or not of_corpus:
        return
    texts = {note.text for note in record.summary.notes if note.kind == "data"}
    missing = [text for text in of_corpus if text not in texts]
    if missing and texts:
        findings.skip(f"notes: another version of the corpus's notes was recorded; now it also says: {missing[0]}")
        return
    findings.check(not missing, "records tell what their corpus has to tell", place,
                   f"summary.json has none of the corpus's notes, as: {missing[0] if missing else ''}")  # fmt: skip
