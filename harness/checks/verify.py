"""`harness verify`: check everything that is published under a name, from its table down to its predictions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.checks.dependency_checks import check_dependencies
from harness.checks.findings import Findings, same_number
from harness.checks.launch_checks import check_launched, check_notes, check_seeds
from harness.checks.record_checks import Place, check_record
from harness.config.trial import which_test_set
from harness.errors import TrialError, UserError, first_line
from harness.records.packed import packed_records
from harness.records.schema import Launch, Manifest, Record
from harness.records.store import MANIFEST, RecordStore
from harness.records.task import normaliser_of, task_of
from harness.tasks.references import References, ReferenceShelf

UNCHECKABLE = "costs (seconds, memory): they differ from run to run, so there is no value to check against"


@dataclass(frozen=True)
class Verification:
    """What `verify` looked at, and what it found.

    Attributes:
        digest: of the whole experiment, to be quoted where it is published; None where none was taken.
        launches: with which plans it was launched.
        versions: of harness's code, each with the number of records that it made; empty where one made all of them.
    """

    name: str
    num_records: int
    num_arms: int
    findings: Findings
    digest: str | None = None
    launches: tuple[Launch, ...] = ()
    versions: tuple[tuple[str, int], ...] = ()


def verify(results: Path, name: str) -> Verification:
    """Check a published experiment, or a sweep with what it has so far.

    Raises:
        UserError: nothing has been run under this name, no trial is finished, or the published records are corrupt.
    """
    store = RecordStore(results, name)
    packed = packed_records(str(store.path))
    if packed is not None:
        packed.check()
    has_search = (store.path / "search.json").exists()
    findings = Findings()
    if has_search and not (store.path / MANIFEST).exists():
        digests = check_launched(store, None, findings)
        findings.add([check_search(store.path, None)])
        return Verification(name, 0, 0, findings, None if digests is None else digests.experiment)
    manifest = store.manifest()
    shelf = ReferenceShelf()
    records = check_records(store, manifest, shelf, findings)
    if not records and not findings.drifts:
        raise UserError(f"{store.path}: no trial of {name} is finished, so there is nothing to verify")
    check_bases(records, findings)
    check_dependencies(store, records, shelf, findings)
    digests = check_launched(store, manifest, findings)
    check_seeds(manifest, {record.trial_id: record for _, record in records}, findings)
    for place, record in records:
        check_notes(record, place.record, notes_of_corpus(record, shelf), digests, findings)
    check_tables(store, findings)
    if has_search:
        findings.add([check_search(store.path, manifest)])
    findings.skip(UNCHECKABLE)
    digest = None if digests is None else digests.experiment
    versions = code_versions([record for _, record in records])
    return Verification(name, len(records), len(manifest.arms), findings, digest, manifest.launches, versions)


def check_records(
    store: RecordStore, manifest: Manifest, shelf: ReferenceShelf, findings: Findings
) -> list[tuple[Place, Record]]:
    """Check every record of the table, arm by arm; return those that could be read."""
    records = []
    missing = []
    for arm, seeds in manifest.arms.items():
        for seed, trial_id in seeds.items():
            place = Place(arm, seed, store.trial(trial_id))
            try:
                record = place.folder.whole_record()
            except UserError as error:
                findings.check(False, "", place.record, str(error))
                continue
            if record is None:
                missing.append(f"{arm}, seed {seed}")
                continue
            records.append((place, record))
            findings.add([check_record(place, record, shelf)])
    if missing:
        findings.skip(f"planned trials without a record: {len(missing)} ({'; '.join(missing)})")
    return records


def code_versions(records: Sequence[Record]) -> tuple[tuple[str, int], ...]:
    """The versions of harness's code that made some records, most used first; nothing where one made all.

    Nobody need have made a mistake: who commits between two launches has two. Whether it matters, their reader knows.
    """
    found: Counter[str] = Counter()
    for record in records:
        if (made := record.provenance) is not None:
            commit = "no checkout" if made.git_commit is None else f"commit {made.git_commit[:12]}"
            found[f"harness {made.harness_version}, {commit}{' with changes' if made.git_dirty else ''}"] += 1
    return tuple(found.most_common()) if len(found) > 1 else ()


def notes_of_corpus(record: Record, shelf: ReferenceShelf) -> tuple[str, ...]:
    """What the corpus of a record has to tell; nothing where it is not here, or as another version."""
    fingerprint, task = record.provenance.corpus_fingerprint if record.provenance else None, task_of(record)
    found = None if task is None else shelf.find(record.config["data"], fingerprint, task, normaliser_of(record))
    return found.corpus.notes if isinstance(found, References) else ()


def check_bases(records: list[tuple[Place, Record]], findings: Findings) -> None:
    """Check the base model's scores: the same in all records, and those of an arm that trains nothing, if any."""
    groups: dict[tuple[str, ...], list[tuple[Place, Record]]] = defaultdict(list)
    for place, record in records:
        if record.summary.base and record.provenance is not None:
            loop, made = record.config["loop"], record.provenance
            how = (loop["precision"], loop["device"].split(":")[0], *which_test_set(record.config["data"]))
            key = (made.backbone_fingerprint, made.corpus_fingerprint, *how)
            groups[key].append((place, record))
    for members in groups.values():
        _check_shares(members, findings)
        untrained = [record for _, record in members if record.config["train"] == "none"]
        if not untrained:
            findings.skip(
                "base model's scores against predictions: every arm trains, so no record holds its predictions"
            )
        known: dict[tuple[str, str], float] = {}
        for record in [*untrained, *(record for _, record in members)]:
            scores = record.summary.by_domain if record in untrained else record.summary.base
            for domain, metrics in scores.items():
                for metric, value in metrics.items():
                    known.setdefault((domain, metric), value)
        for place, record in members:
            for domain, metrics in record.summary.base.items():
                for metric, value in metrics.items():
                    expected = known[domain, metric]
                    findings.check(
                        same_number(value, expected),
                        "base model's scores are the same in all records",
                        place.cell(f"base {metric} on {domain}"),
                        f"summary.json has {value!r}, other records have {expected!r}",
                    )


def _check_shares(members: list[tuple[Place, Record]], findings: Findings) -> None:
    """Check that count and share of trained weights give the same size of the base model in all records."""
    wholes = {}
    for place, record in members:
        parameters, share = (record.summary.metrics.get(f"trainable_{n}", 0.0) for n in ("parameters", "share"))
        if parameters and share:
            wholes[place] = round(parameters / share)
    usual = Counter(wholes.values()).most_common(1)
    for place, whole in wholes.items():
        findings.check(
            whole == usual[0][0],
            "shares of trained weights fit one base model",
            place.cell("trainable_share"),
            f"summary.json gives a base model of {whole:,} weights, other records {usual[0][0]:,}",
        )


def check_tables(store: RecordStore, findings: Findings) -> None:
    """Compare the published files of the table with the table that the records give."""
    from harness.checks.table_checks import check_renderings
    from harness.tables.build import build_table
    from harness.tables.render.formats import FORMATS

    try:
        table = build_table(store)
    except (UserError, TrialError) as error:
        findings.check(False, "", f"{store.name}: table", f"it cannot be built again: {error}")
        return
    if not check_renderings(store.path, table, FORMATS, findings):
        files = ", ".join(format.file_name for format in FORMATS.values())
        findings.skip(f"the table: {store.path} holds none of {files}")


def check_search(path: Path, manifest: Manifest | None) -> Findings:
    """Check a sweep's search, race and winners; `manifest` is None before the confirm phase."""
    from harness.checks.sweep_checks import check_sweep

    try:
        return check_sweep(path, manifest)
    except (UserError, ValueError) as error:
        findings = Findings()
        findings.check(False, "", "search.json", first_line(error))
        return findings
