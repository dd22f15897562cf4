"""Check one record: its id, its files, its log, and that every metric can be computed again.

id               the hash of the config
metrics          computed by `harness.metrics` from `by_domain` and `base`
by_domain        the predictions scored against the corpus's references
valid            the log's entry of the best epoch
parameter counts those of the adapters, and of the shares of the layers towards the head
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.checks.findings import Findings, cell_name, same_number
from harness.config.points import TOWARDS_HEAD
from harness.config.trial import describe_old, is_deterministic, trial_id_of, version_of
from harness.errors import TrialError, UserError
from harness.metrics import METRICS, Answer, constrained_score, forgetting
from harness.records.files import first_problem
from harness.records.predictions import PredictedItem, group_digest, read_predictions, read_test_items
from harness.records.schema import Record, Summary
from harness.records.task import normaliser_of, primary_of, task_of
from harness.records.trial_folder import TrialFolder
from harness.tasks.references import References, ReferenceShelf


class _Epoch(BaseModel):
    """What is read of a line of a log."""

    metrics: dict[str, float]


LOG = TypeAdapter(list[_Epoch])


@dataclass(frozen=True)
class Place:
    """A record, and the arm and seed under which it stands in its table."""

    arm: str
    seed: int
    folder: TrialFolder

    def cell(self, column: str) -> str:
        return f"{cell_name(self.arm, column, self.seed)} ({self.folder.trial_id})"

    @property
    def record(self) -> str:
        return f"{self.arm}, seed {self.seed} ({self.folder.trial_id})"


def check_record(place: Place, record: Record, shelf: ReferenceShelf) -> Findings:
    """All checks of one finished record."""
    findings = Findings()
    check_identity(place, record, findings)
    check_digests(place, record, findings)
    check_log(place, record, findings)
    if record.summary.state == "complete":
        check_parameters(place, record, findings)
        if record.summary.by_domain:
            check_metrics(place, record, findings)
            check_predictions(place, record, shelf, findings)
    return findings


def check_identity(place: Place, record: Record, findings: Findings) -> None:
    """Check that the folder's name is the hash of the config in it, and that the seed is the table's."""
    found = place.folder.trial_id
    version = version_of(found, record.config)
    findings.check(
        version is not None,
        "trial ids are the hash of their config",
        place.record,
        f"config.json has the hash {trial_id_of(record.config)}",
    )
    if old := describe_old(version, record.config):
        findings.skip(f"the choice of the best epoch by today's validation sets: {old}")
    findings.check(
        record.summary.trial_id == found,
        "summaries name their trial",
        place.record,
        f"summary.json is that of trial {record.summary.trial_id}",
    )
    seed = record.config.get("seed")
    is_any = seed == 0 and is_deterministic(record.config)  # one trial for all seeds
    findings.check(
        is_any or seed == place.seed, "seeds are those of the table", place.record, f"config.json has seed {seed}"
    )


def check_digests(place: Place, record: Record, findings: Findings) -> None:
    """Check that the files still have the SHA-256 which the provenance recorded."""
    digests = record.provenance.files if record.provenance is not None else {}
    if not digests:
        findings.skip("SHA-256 of files: these records are too old to have them")
    for name, expected in digests.items():
        try:
            content = place.folder.read(name)
        except UserError as error:
            findings.check(False, "", place.record, str(error))
            continue
        if content is None:
            findings.skip(f"{name}: not here (weights are not published)" if name.endswith(".safetensors") else
                          f"{place.record}: {name} is not here")  # fmt: skip
            continue
        found = hashlib.sha256(content).hexdigest()
        findings.check(
            found == expected, "files have their recorded SHA-256", place.record,
            f"{name} has SHA-256 {found[:12]}, provenance.json says {expected[:12]}",
        )  # fmt: skip


def check_log(place: Place, record: Record, findings: Findings) -> None:
    """Check that the summary's epochs and validation metrics are those of the log."""
    summary = record.summary
    try:
        log = place.folder.read_log()
        LOG.validate_python(log)
    except (TrialError, ValidationError) as error:
        problem = f"log.jsonl: {first_problem(error)}" if isinstance(error, ValidationError) else str(error)
        findings.check(False, "", place.record, problem)
        return
    what = "epochs and validation metrics are those of the log"
    findings.check(
        len(log) == summary.epochs_run, what, place.record, f"log.jsonl has {len(log)} epochs, not {summary.epochs_run}"
    )
    kept = summary.best_epoch or 0
    if not log or summary.state != "complete" or not 1 <= kept <= len(log):
        return
    best = log[kept - 1]["metrics"]
    for name, value in summary.valid.items():
        if name in best:
            findings.check(
                best[name] == value,
                what,
                place.cell(name),
                f"summary.json has {value!r}, the log's epoch {kept} has {best[name]!r}",
            )
    primary = primary_of(record)
    meta = (record.config.get("loop") or {}).get("meta")  # which is to help on domains that it has not seen
    selected = f"valid_{'meta' if meta else 'target'}/{primary}"
    scores = [entry["metrics"][selected] for entry in log if selected in entry["metrics"]]
    if primary is not None and len(scores) == len(log):
        pick = max if METRICS[primary].direction == "higher" else min
        first = scores.index(pick(scores)) + 1
        findings.check(
            first == kept,
            what,
            place.cell("best_epoch"),
            f"summary.json has {kept}, but by {selected} the log's best epoch is {first}",
        )


def check_parameters(place: Place, record: Record, findings: Findings) -> None:
    """Check the number of trained weights against the adapters, where nothing else is trained."""
    train, metrics = record.config.get("train"), record.summary.metrics
    if train not in ("none", "adapters") or "trainable_parameters" not in metrics:
        return
    adapters = record.summary.adapters
    shares = sum(name.startswith(f"{TOWARDS_HEAD}.") for name in adapters)  # one number a layer learns with them
    expected = float(sum(adapters.values()) + shares) if train == "adapters" else 0.0
    findings.check(
        metrics["trainable_parameters"] == expected,
        "parameter counts are those of the adapters",
        place.cell("trainable_parameters"),
        f"summary.json has {metrics['trainable_parameters']:g}, the adapters have {expected:g} weights",
    )


def check_metrics(place: Place, record: Record, findings: Findings) -> None:
    """Check that target and source metrics, forgetting and the constrained score follow from `by_domain` and `base`."""
    primary = primary_of(record)
    if primary is None:
        findings.check(False, "", place.record, "summary.json: by_domain has no primary metric of any task")
        return
    try:
        derived = derive_metrics(record.config["data"], record.summary, primary)
    except KeyError as error:
        findings.check(False, "", place.record, f"summary.json: by_domain or base lacks {error}")
        return
    for name, value in derived.items():
        found = record.summary.metrics.get(name)
        findings.check(
            found is not None and same_number(found, value),
            "metrics follow from the scores by domain",
            place.cell(name),
            f"summary.json has {found!r}, its scores by domain give {value!r}",
        )


def derive_metrics(data: dict[str, Any], summary: Summary, primary: str) -> dict[str, float]:
    """A record's test metrics from its scores by domain and those of the base model.

    Raises:
        KeyError: a domain or a metric is missing.
    """
    target, sources = data["target"], list(data["source"])
    after, base = summary.by_domain, summary.base
    derived = {f"target_{name}": value for name, value in after[target].items()}
    for name in after[target]:
        derived[f"source_{name}"] = fmean(after[source][name] for source in sources)
    before = [base[source][primary] for source in sources]
    sources_after = [after[source][primary] for source in sources]
    derived["forgetting"] = forgetting(primary, fmean(before), fmean(sources_after))
    derived["constrained_score"] = constrained_score(
        primary, base[target][primary], after[target][primary], before, sources_after
    )
    return derived


def check_predictions(place: Place, record: Record, shelf: ReferenceShelf, findings: Findings) -> None:
    """Check that the scores by domain follow from the predictions and the corpus's references."""
    fingerprint, task = record.provenance.corpus_fingerprint if record.provenance else None, task_of(record)
    if task is None:
        return  # told by check_metrics
    references = shelf.find(record.config["data"], fingerprint, task, normaliser_of(record))
    if isinstance(references, str):
        findings.skip(f"scores against predictions: {references}")
        return
    try:
        predictions, kept = read_predictions(place.folder), read_test_items(place.folder)
    except UserError as error:
        findings.check(False, "", place.record, str(error))
        return
    if predictions is None:
        findings.skip(f"scores against predictions: {place.record} has no predictions.jsonl")
        return
    for domain, scores in record.summary.by_domain.items():
        if _check_domain(place, record, domain, scores, predictions.get(domain, {}), references, findings):
            if kept is None:
                findings.skip("references of test items: these records are too old to have them")
            else:
                _check_references(place, domain, kept.get(domain, []), references, findings)


def _check_domain(
    place: Place,
    record: Record,
    domain: str,
    scores: dict[str, float],
    predictions: dict[str, Answer],
    references: References,
    findings: Findings,
) -> bool:
    """Check one domain; returns whether its predictions are those of the test items."""
    keys = [item.key for item in references.items(domain)]
    role = "target" if domain == record.config["data"]["target"] else "source"
    if not findings.check(
        list(predictions) == keys,
        "every test item has a prediction",
        place.cell(domain),
        f"predictions.jsonl has {len(predictions)} items of {domain}, not the {len(keys)} of the test set",
    ):
        return False
    for name, value in scores.items():
        if name not in METRICS:
            findings.skip(f"{name}: this version does not know this metric")
            continue
        found = references.score(name, domain, predictions)
        if name == "macro_f1" and version_of(record.trial_id, record.config) == 1 and found != value:
            # Version 1 counted a class that does not occur as 0: the sum is the same, over all classes.
            occurs = {*(item.reference for item in references.items(domain)), *predictions.values()}
            found = found * len(occurs) / len(references.outputs)
        findings.check(
            same_number(found, value),
            "scores by domain follow from the predictions",
            place.cell(f"{role}_{name}"),
            f"summary.json has {value!r} on {domain}, its predictions give {found!r}",
        )
    return True


def _check_references(
    place: Place, domain: str, kept: Sequence[PredictedItem], references: References, findings: Findings
) -> None:
    """Check the references and groups that the record keeps, by which a table says how far its items carry."""
    expected = [(item.key, item.reference, group_digest(item.group)) for item in references.items(domain)]
    found = [(item.key, item.reference, item.group) for item in kept]
    wrong = [one[0] for one, other in zip(expected, found, strict=True) if one != other]
    findings.check(
        not wrong,
        "references and groups of test items are the corpus's",
        place.cell(domain),
        f"predictions.jsonl has {len(wrong)} items of {domain} with another reference or group than the corpus, "
        f"the first of them {wrong[0] if wrong else ''}",
    )
