"""Check that trials took the weights that the records of other trials tell of; and find those records.

taken       each file that a trial took weights from has the SHA-256 that the record of its owner has
records     every trial whose weights were taken has a record here, which is checked like those of the table
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.checks.findings import Findings
from harness.checks.record_checks import Place, check_record
from harness.config.adapters import needs_in
from harness.errors import UserError
from harness.records.schema import Record
from harness.records.store import RecordStore
from harness.tasks.references import ReferenceShelf


def with_needed(store: RecordStore, trial_ids: Iterable[str]) -> set[str]:
    """Some trials, and all that they took weights from, directly or not."""
    waiting, found = list(trial_ids), set[str]()
    while waiting:
        trial_id = waiting.pop()
        if trial_id in found:
            continue
        found.add(trial_id)
        folder = store.trial(trial_id)
        if folder.has_started():
            waiting += needs_in(folder.config())
    return found


def check_dependencies(
    store: RecordStore, records: Sequence[tuple[Place, Record]], shelf: ReferenceShelf, findings: Findings
) -> None:
    """Check what the trials of the table, and those that these depend on, took weights from."""
    known = {record.trial_id: record for _, record in records}
    waiting = list(records)
    while waiting:
        place, record = waiting.pop()
        for trial_id in needs_in(record.config):
            if trial_id not in known:
                giver = Place(f"{place.arm} (it takes weights from it)", place.seed, store.trial(trial_id))
                try:
                    found = giver.folder.whole_record()
                except UserError as error:
                    findings.check(False, "", giver.record, str(error))
                    continue
                if found is None:
                    findings.check(
                        False, "", place.record, f"it took weights from trial {trial_id}, which has no record"
                    )
                    continue
                known[trial_id] = found
                waiting.append((giver, found))
                findings.add([check_record(giver, found, shelf)])
        _check_taken(place, record, known, findings)


def _check_taken(place: Place, record: Record, known: dict[str, Record], findings: Findings) -> None:
    """Check the SHA-256 of each file that a trial took weights from against the record of its owner."""
    taken = {} if record.provenance is None else record.provenance.taken
    for path, digest in taken.items():
        trial_id, _, name = path.partition("/")
        owner = known.get(trial_id)
        if owner is None or owner.provenance is None:
            continue  # told already, or a record that is older than digests
        says = owner.provenance.files.get(name)
        findings.check(
            says == digest, "weights that were taken are those of their record", place.record,
            f"it took {path} with SHA-256 {digest[:12]}, the record of {trial_id} says {str(says)[:12]}",
        )  # fmt: skip
    missing = {*needs_in(record.config)} - {path.partition("/")[0] for path in taken}
    if record.summary.state == "complete":
        findings.check(
            not missing, "weights that were taken are those of their record", place.record,
            f"its config takes weights from {', '.join(sorted(missing))}, provenance.json says of none",
        )  # fmt: skip
