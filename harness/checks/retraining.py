"""Train a published trial again, from the config in its record, and compare. The one check that loads torch."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.checks.record_checks import Place
from harness.config.adapters import needs_in
from harness.config.messages import validated
from harness.config.rows import RowId, find_rows
from harness.config.table import rows_named
from harness.config.trial import TrialConfig, describe_old, version_of
from harness.errors import UserError
from harness.metrics import METRICS
from harness.records.made_with import MadeWith
from harness.records.predictions import read_predictions
from harness.records.provenance import installed_versions, machine, package_versions
from harness.records.schema import Provenance, Record, Summary
from harness.records.store import RecordStore
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun

ATTENTION = "attention.json"
SEEN = 0.005  # a heat map has two decimals
ROUNDING = 1e-4  # of metrics of predicted numbers, between engines in float32


@dataclass
class Retrained:
    """How a training compares with its record."""

    report: list[str] = field(default_factory=list)
    drifts: list[str] = field(default_factory=list)


def choose_trial(results: Path, name: str, cell: str | None) -> tuple[Place, Record]:
    """The trial to train again: `ROW/SEED` or `ROW` (any of its seeds), or any of the table's when None.

    A record of several seeds or rows counts once, and one in which something learns is chosen before others.

    Raises:
        UserError: no such row or seed (the choices are named), or its trial is not complete.
    """
    store = RecordStore(results, name)
    arms = store.manifest().arms
    places = [Place(arm, seed, store.trial(i)) for arm, seeds in arms.items() for seed, i in seeds.items()]
    if cell is not None:
        rows, seed = split_cell(cell, store.manifest().row_ids)
        places = [place for place in places if place.arm in rows and (seed is None or place.seed == seed)]
        if not places:
            choices = ", ".join(map(str, arms[rows[0]]))
            raise UserError(f"--cell {cell!r}: {rows[0]} has no seed {seed}; choices: {choices}")
    complete = []
    for place in places:
        record = place.folder.record()
        if record is not None and record.summary.state == "complete":
            complete.append((place, record))
    if not complete:
        where = name if cell is None else f"--cell {cell!r}"
        raise UserError(f"{where}: no trial is complete, so there is nothing to compare with")
    distinct = list({record.trial_id: (place, record) for place, record in reversed(complete)}.values())
    # Where nothing is trained, little is shown by training again; rows may share such a record.
    trained = [found for found in distinct if found[1].config.get("train") != "none"]
    return secrets.choice(trained or distinct)


def split_cell(cell: str, rows: Sequence[RowId]) -> tuple[list[str], int | None]:
    """`ROW/SEED` or `ROW` -> the rows that are meant, and the seed.

    Raises:
        UserError: no such row, or a seed that is no number.
    """
    if found := find_rows(cell, rows):
        return found, None
    row, slash, seed = cell.rpartition("/")
    found = rows_named(row if slash else cell, rows, f"--cell {cell!r}")
    if not seed.isdecimal():
        raise UserError(f"--cell {cell!r}: expected ROW or ROW/SEED, as in {rows[0].name}/0")
    return found, int(seed)


def retrain_trial(place: Place, record: Record, tolerance: float) -> Retrained:
    """Train the trial in a folder that is thrown away, and compare every test metric and prediction.

    What it takes weights from is trained there before.

    On the packages and the processor of the record the numbers must be the same to the last bit; elsewhere each metric
    must lie within `tolerance` (fractions) of the record's. Here the plain loop trains: where numbers are predicted and
    another engine trained the record, `ROUNDING` is allowed.

    Raises:
        UserError: the config means nothing to this version, or something else than to the one that made the record;
            or data or backbone are not here.
    """
    from harness.training.resources import Resources
    from harness.training.run_trial import run_trial

    try:
        config = TrialConfig.model_validate(record.config)
    except ValidationError as error:
        raise UserError(
            f"{place.record}: config.json: {error.errors()[0]['msg']}: not a config of this version"
        ) from error
    if old := describe_old(version_of(record.trial_id, record.config), record.config):
        raise UserError(f"{place.record}: {old}; this version would choose by other sets, so it cannot be repeated")
    resources = Resources()
    domains = resources.domains(config)
    check_made_with(place, record, domains.made_with)
    run = TrialRun(config.trial_id, "verify", place.arm, place.seed, "confirm")
    with tempfile.TemporaryDirectory() as scratch:
        _train_needed(place.folder.path.parent, record.config, Path(scratch))
        folder = TrialFolder(Path(scratch) / config.trial_id)
        summary = run_trial(config, run, folder, resources)
        if summary.state != "complete":
            return Retrained(drifts=[f"{place.record}: the training failed: {summary.message}"])
        found = compare_with_record(place, record, summary, tolerance)
        compare_predictions(place, folder, found)
        compare_attention(place, folder, found)
    return found


def _train_needed(records: Path, config: Mapping[str, Any], scratch: Path) -> None:
    """Train what a config takes weights from, and before that what this takes weights from.

    Raises:
        UserError: a record is missing, or its config means nothing to this version.
    """
    from harness.training.resources import Resources
    from harness.training.run_trial import run_trial

    for trial_id in needs_in(config):
        folder = TrialFolder(scratch / trial_id)
        if folder.is_finished():
            continue
        record = TrialFolder(records / trial_id).record()
        if record is None:
            raise UserError(f"{records / trial_id}: the trial takes weights from this one, which has no record here")
        _train_needed(records, record.config, scratch)
        needed = validated(TrialConfig, record.config, f"{records / trial_id}: config.json")
        run = TrialRun(trial_id, "verify", trial_id, needed.seed, "part")
        run_trial(needed, run, folder, Resources(sealed=True))


def check_made_with(place: Place, record: Record, here: MadeWith) -> None:
    """Refuse to compare trainings on other data or another base model.

    Raises:
        UserError: a fingerprint is another one here.
    """
    if record.provenance is None:
        return
    if differs := here.difference(record.provenance.made_with):
        raise UserError(
            f"{place.record}: made with {differs.what} {differs.there[:12]}, but here it is {differs.here[:12]}, so it "
            "cannot be repeated"
        )


def differing_packages(provenance: Provenance | None) -> list[str]:
    """What differs between the record's packages and processor and this process's, as text."""
    if provenance is None:
        return ["the record does not say what it was made with"]
    there = provenance.packages
    here = package_versions() | installed_versions(there)
    names = sorted(here.keys() | there.keys())
    found = [f"{n} {there.get(n, 'none')} -> {here.get(n, 'none')}" for n in names if here.get(n) != there.get(n)]
    processor = machine()["processor"]
    if provenance.machine.get("processor") != processor:
        found.append(f"processor {provenance.machine.get('processor', 'unknown')} -> {processor}")
    return found


def compare_with_record(place: Place, record: Record, summary: Summary, tolerance: float) -> Retrained:
    """Compare every test metric with the record's."""
    others = differing_packages(record.provenance)
    allowed = tolerance if others else 0.0
    found = Retrained()
    if others:
        found.report.append(
            f"packages or processor differ ({'; '.join(others)}): metrics may differ by up to {tolerance:g}"
        )
    else:
        found.report.append("packages and processor are the same: metrics must be identical")
    engine = ((record.provenance.execution if record.provenance else None) or {}).get("engine", "plain")
    predicts_numbers = any(
        METRICS[name].answers == "number"
        for scores in record.summary.by_domain.values()
        for name in scores
        if name in METRICS
    )
    if predicts_numbers and engine != "plain":
        # The same classes and words follow from outputs that agree to rounding, but not the same numbers.
        allowed = max(allowed, ROUNDING)
        found.report.append(
            f"predicted numbers, trained by the {engine} engine: they may differ by rounding, {ROUNDING:g}"
        )
    for name, value in record.summary.metrics.items():
        again = summary.metrics.get(name)
        if again is None or abs(again - value) > allowed:
            found.drifts.append(f"{place.cell(name)}: the record has {value!r}, training again gives {again!r}")
            found.report.append(f"DRIFT {found.drifts[-1]}")
        else:
            same = "the same" if again == value else f"{again - value:+.2g}"
            found.report.append(f"{name}: {value:.6g}, again {again:.6g} ({same})")
    return found


def compare_predictions(place: Place, folder: TrialFolder, found: Retrained) -> None:
    """Report how many predictions are the same. This is information only: the metrics decide."""
    before, after = read_predictions(place.folder), read_predictions(folder)
    if before is None or after is None:
        found.report.append("predictions: the record has none")
        return
    total = sum(len(items) for items in before.values())
    same = sum(after.get(d, {}).get(k) == p for d, items in before.items() for k, p in items.items())
    found.report.append(f"predictions: {same} of {total} are the same")


def compare_attention(place: Place, folder: TrialFolder, found: Retrained) -> None:
    """Compare a fusion's attention with the record's, as far as a heat map shows it."""
    files, again = place.folder.files, folder.files
    if not files.has(ATTENTION):
        return
    before, after = files.json(ATTENTION), again.json(ATTENTION) if again.has(ATTENTION) else None
    layers = before["layers"]
    if after is None or before["adapters"] != after["adapters"] or layers.keys() != after["layers"].keys():
        drift = "the record's is about other adapters or layers than the one of the training"
    else:
        pairs = [pair for name in layers for pair in zip(layers[name], after["layers"][name], strict=True)]
        largest = max(abs(one - other) for one, other in pairs)
        found.report.append(f"{ATTENTION}: no weight differs by more than {largest:.2g}")
        if largest <= SEEN:
            return
        drift = f"a weight differs by {largest:.2g}"
    found.drifts.append(f"{place.cell(ATTENTION)}: {drift}")
    found.report.append(f"DRIFT {found.drifts[-1]}")
