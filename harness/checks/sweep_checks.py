"""Check a sweep: its search trials against their records, its winners against the rules, its rows against the winners.

Only the results folder is read: frozen.json has the objectives, constraints, rules, search space and seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import TypeAdapter

from harness.checks.findings import Findings, same_number
from harness.checks.record_checks import Place, check_digests, check_identity, check_log
from harness.config.adapters import with_needs
from harness.config.rows import merge_rules
from harness.config.sweep import ConstraintSettings, regularisers
from harness.config.trees import get_dotted
from harness.config.trial import CONFIG_VERSION, is_deterministic, trial_id_of, version_of
from harness.errors import TrialError, UserError
from harness.records.frozen import read_frozen
from harness.records.schema import Manifest, Record, assert_sealed
from harness.records.search import SearchPoint, read_search
from harness.records.trial_folder import TrialFolder
from harness.sweep.selection import (
    Contender,
    Winner,
    choose_contenders,
    describe_winner,
    drop_losers,
    judged_by,
    select,
)

CONSTRAINTS = TypeAdapter(tuple[ConstraintSettings, ...])


class SweepFolder:
    """A sweep's search as it lies on disk.

    Raises:
        UserError: search.json or frozen.json is corrupt.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        result = read_search(path)
        assert result is not None, "a sweep is told by its search.json"
        self.result, self.frozen = result, read_frozen(path)
        self.constraints = CONSTRAINTS.validate_python((self.frozen or {}).get("constraints", ()))

    @property
    def judges_by_race(self) -> bool:
        """Whether contenders were judged by the race's seeds and by bounds; older sweeps: by means over all seeds."""
        return "judged_by" in (self.frozen or {})

    def folder(self, trial_id: str) -> TrialFolder:
        return TrialFolder(self.path / "search" / trial_id)

    def id_with_seed(self, record: Record, seed: int) -> str:
        """The id of a record's config with another seed, under the version that made the record.

        What it takes weights from has that seed as well.
        """
        version = version_of(record.trial_id, record.config) or CONFIG_VERSION
        if version > 1 and is_deterministic(record.config):
            seed = 0
        config = with_needs(record.config, lambda needed: self.id_with_seed(self.record(needed), seed))
        return trial_id_of({**config, "seed": seed}, version)

    def record(self, trial_id: str) -> Record:
        """A record of the search.

        Raises:
            UserError: it is missing or corrupt.
        """
        record = self.folder(trial_id).whole_record()
        if record is None:
            raise UserError(f"search/{trial_id}: no finished record there")
        return record


def check_sweep(path: Path, manifest: Manifest | None) -> Findings:
    """All checks of a sweep's folder; `manifest` is that of its confirm phase, None before it."""
    findings = Findings()
    sweep = SweepFolder(path)
    for point in sweep.result.points:
        check_point(sweep, point, findings)
    if sweep.frozen is None:
        findings.skip("winners: none is chosen yet (there is no frozen.json)")
        return findings
    if sweep.judges_by_race:
        expected = judged_by(sweep.frozen["search"]["seeds"], sweep.frozen["race"]["seeds"])
        found = sweep.frozen["judged_by"]
        findings.check(found == expected, "contenders were judged as frozen.json says", "frozen.json",
                       f"judged_by is {found}, the seeds give {expected}")  # fmt: skip
    for arm in sweep.frozen["arms"]:
        try:
            check_arm(sweep, arm, manifest, findings)
        except (UserError, KeyError, IndexError) as error:
            findings.check(False, "", f"frozen.json, arm {arm}", f"it cannot be computed again: {error}")
    return findings


def check_point(sweep: SweepFolder, point: SearchPoint, findings: Findings) -> None:
    """Check a trial of search.json against the records behind it."""
    where = f"search.json, {point.arm}, trial {point.number}"
    if point.state in ("running", "waiting"):
        findings.skip(f"{where}: {point.state}")
        return
    records = []
    for trial_id in point.trial_ids:
        try:
            records.append(sweep.record(trial_id))
        except UserError as error:
            if point.state != "failed":  # a failed trial may have left nothing
                findings.check(False, "", where, str(error))
                return
            findings.skip(f"{where}: it failed and left no record")
    for record in records:
        _check_search_record(sweep, point, record, findings)
    states = {str(record.summary.state) for record in records}
    if point.state != "complete":
        findings.check(not states or point.state in states, "states are those of the records", where,
                       f"it is {point.state}, its records are {', '.join(sorted(states))}")  # fmt: skip
        return
    findings.check(states == {"complete"}, "states are those of the records", where,
                   f"it is complete, its records are {', '.join(sorted(states))}")  # fmt: skip
    _check_values(sweep, point, records, where, findings)


def _check_search_record(sweep: SweepFolder, point: SearchPoint, record: Record, findings: Findings) -> None:
    place = Place(point.arm, int(record.config.get("seed", -1)), sweep.folder(record.trial_id))
    where = f"search record {record.trial_id} ({point.arm}, trial {point.number})"
    check_identity(place, record, findings)
    check_digests(place, record, findings)
    check_log(place, record, findings)
    try:
        assert_sealed(record.summary)
        sealed = "predictions.jsonl" if place.folder.files.has("predictions.jsonl") else None
    except TrialError as error:
        sealed = str(error)
    findings.check(sealed is None, "search records hold no test number", where, f"it holds test data: {sealed}")
    for key, value in point.params.items():
        found = get_dotted(record.config, key, None)
        findings.check(
            found == value, "searched settings are those of the records", where, f"{key} is {found!r}, not {value!r}"
        )


def _check_values(
    sweep: SweepFolder, point: SearchPoint, records: Sequence[Record], where: str, findings: Findings
) -> None:
    """Check a search trial's validation metrics, objectives and violations against its records."""
    what = "search trials have the validation metrics of their records"
    for metric, value in point.valid.items():
        found = fmean(record.summary.valid[metric] for record in records)
        findings.check(same_number(found, value), what, where, f"{metric} is {value!r}, its records give {found!r}")
    for objective, value in zip(sweep.result.objectives, point.values, strict=True):
        own = point.valid.get(objective.metric)
        findings.check(own == value, what, where, f"the objective {objective.metric} is {value!r}, not {own!r}")
    if sweep.frozen is not None:
        violations = [constraint.violation(point.valid) for constraint in sweep.constraints]
        same = len(violations) == len(point.violations) and all(map(same_number, violations, point.violations))
        findings.check(same, what, where, f"violations are {list(point.violations)}, not {violations}")


def check_arm(sweep: SweepFolder, arm: str, manifest: Manifest | None, findings: Findings) -> None:
    """Check an arm's race, winners and confirmed rows."""
    assert sweep.frozen is not None
    written, rules = sweep.frozen["arms"][arm], sweep.frozen["confirm"]["rules"]
    points = [point for point in sweep.result.points if point.arm == arm]
    counted = {state: sum(p.state == state for p in points) for state in written["trials"]}
    findings.check(counted == written["trials"], "numbers of trials are those of the search", f"frozen.json, {arm}",
                   f"it has {written['trials']}, search.json gives {counted}")  # fmt: skip
    planned = sweep.frozen["budget"].get("trials")
    if planned is not None:
        numbers = [point.number for point in points]
        findings.check(numbers == list(range(planned)), "every arm has its whole budget", f"search.json, {arm}",
                       f"it has {len(numbers)} trials, the budget is {planned}")  # fmt: skip
    racing = run_race_again(sweep, points)
    raced = [
        {
            "trial": c.number,
            "params": dict(c.params),
            "validation": {str(s): dict(v) for s, v in {**c.searched, **c.raced}.items()},
        }
        for c in racing
    ]
    findings.check(_plain(raced) == written["raced"], "the race leaves the same trials", f"frozen.json, {arm}",
                   f"it names trials {[c['trial'] for c in written['raced']]}; the records give "
                   f"{[c.number for c in racing]}, or other validation metrics")  # fmt: skip
    keys = sweep.frozen["confirm"].get("regularisation") or regularisers(
        {key: parameter["type"] for key, parameter in sweep.frozen["space"].items()}
    )
    axes = [axis for axis in sweep.result.axes[arm] if axis.key in keys]
    winners: dict[str, Winner] = {}
    for rule in rules:
        winners[rule] = select(rule, racing, sweep.result.objectives[0], sweep.constraints, axes,
                               surely=sweep.judges_by_race)  # fmt: skip
        derived = _plain(describe_winner(winners[rule]))
        found = written["winners"].get(rule)
        findings.check(derived == found, "winners follow from the named rules", f"frozen.json, {arm}, rule {rule}",
                       f"it says {_brief(found)}, the records give {_brief(derived)}")  # fmt: skip
    if manifest is not None:
        check_rows(sweep, arm, points, winners, manifest, findings)


def run_race_again(sweep: SweepFolder, points: Sequence[SearchPoint]) -> list[Contender]:
    """Run the race again from the records, without training; return the contenders that it leaves.

    Raises:
        UserError: a record is missing.
    """
    assert sweep.frozen is not None
    objective, frozen = sweep.result.objectives[0], sweep.frozen
    chosen = choose_contenders(points, objective, frozen["confirm"]["rules"], frozen["race"]["candidates"])
    racing = []
    for point in chosen:
        seeds = zip(frozen["search"]["seeds"], point.trial_ids, strict=True)
        runs = {seed: sweep.record(trial_id).summary.valid for seed, trial_id in seeds}
        racing.append(Contender(point.number, point.params, runs))
    first = {point.number: sweep.record(point.trial_ids[0]) for point in chosen}
    for seed in frozen["race"]["seeds"]:
        extended = []
        for contender in racing:
            trial_id = sweep.id_with_seed(first[contender.number], seed)
            summary = sweep.record(trial_id).summary
            if summary.state == "complete":
                if sweep.judges_by_race:
                    extended.append(replace(contender, raced={**contender.raced, seed: summary.valid}))
                else:  # old sweeps took the mean over all seeds
                    extended.append(replace(contender, searched={**contender.searched, seed: summary.valid}))
        racing = drop_losers(extended, objective, sweep.constraints, surely=sweep.judges_by_race)
    return racing


def check_rows(
    sweep: SweepFolder,
    arm: str,
    points: Sequence[SearchPoint],
    winners: Mapping[str, Winner],
    manifest: Manifest,
    findings: Findings,
) -> None:
    """Check that the rows of the confirm phase are the winners' settings on the confirm seeds."""
    assert sweep.frozen is not None
    merged = merge_rules(arm, {rule: winner.contender.number for rule, winner in winners.items()})
    for number, row_id in merged.items():
        row = row_id.name
        point = next(point for point in points if point.number == number)
        record = sweep.record(point.trial_ids[0])
        expected = {seed: sweep.id_with_seed(record, seed) for seed in sweep.frozen["confirm"]["seeds"]}
        findings.check(manifest.arms.get(row) == expected, "confirmed rows are the winners", f"experiment.json, {row}",
                       f"it names {manifest.arms.get(row)}, the frozen winner gives {expected}")  # fmt: skip


def _plain(content: Any) -> Any:
    """The content as JSON reads it back: tuples become lists, and numbers as keys become text."""
    return json.loads(json.dumps(content))


def _brief(winner: Mapping[str, Any] | None) -> str:
    if winner is None:
        return "nothing"
    settings = ", ".join(f"{key.rsplit('.', 1)[-1]} {value}" for key, value in winner["params"].items())
    se = winner["standard_error"]
    return f"trial {winner['trial']} ({settings}; standard error {se if se is None else format(se, '.6g')})"
