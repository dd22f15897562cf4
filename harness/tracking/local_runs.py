"""What `harness sync` sends: the finished records of one experiment or sweep, and the sweep as a whole.

experiment.json gives arm and seed of the records in records/, starts.jsonl arm and number of those in search/. Where a
search is older than starts.jsonl, search.json has them: a point names its records, and a race's have its settings on
another seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.base import content_hash
from harness.config.trial import is_deterministic
from harness.errors import must_be_in
from harness.records.packed import RECORDS
from harness.records.schema import Summary
from harness.records.search import SearchPoint, SearchResult, read_search
from harness.records.starts import read_starts
from harness.records.store import MANIFEST, RecordStore
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun
from harness.tracking.study import Study, read_study
from harness.tracking.tracker import TrackedTrial, trial_content


@dataclass(frozen=True)
class LocalTrial:
    """A finished record, as it goes to W&B."""

    trial: TrackedTrial
    entries: tuple[dict[str, Any], ...]
    summary: Summary

    @property
    def run_id(self) -> str:
        return self.trial.trial_id

    @property
    def title(self) -> str:
        return self.trial.run.title

    @property
    def content(self) -> str:
        """The hash of log and summary."""
        return trial_content(self.entries, self.summary)


@dataclass(frozen=True)
class LocalRuns:
    """Everything of one experiment or sweep.

    Attributes:
        num_unknown: finished records of a search that nothing explains yet (an old search that still runs).
    """

    trials: tuple[LocalTrial, ...]
    study: Study | None
    num_unknown: int = 0


def find_names(results: Path) -> list[str]:
    """The experiments and sweeps that have results."""
    kinds = (MANIFEST, RECORDS, "search")
    return sorted({path.parent.name for kind in kinds for path in results.glob(f"*/{kind}")})


def read_local_runs(results: Path, name: str) -> LocalRuns:
    """Read what there is to send.

    Raises:
        UserError: no such results, or a corrupt file.
    """
    must_be_in(name, find_names(results) or ["nothing has been run there"], f"no results of {name!r} in {results}")
    path = results / name
    found = {trial.run_id: trial for trial in _confirm_trials(results, name)}
    runs = {start.run.trial_id: start.run for start in read_starts(path)[0] if start.run.phase == "search"}
    points = _PointFinder(path / "search", read_search(path))
    num_unknown = 0
    for folder in RecordStore(results, name).finished("search"):
        run = runs.get(folder.trial_id) or points.find(folder, name)
        if run is None:
            num_unknown += 1
        else:
            found.setdefault(folder.trial_id, _read_trial(folder, run))
    return LocalRuns(tuple(found.values()), read_study(results, name), num_unknown)


def _confirm_trials(results: Path, name: str) -> list[LocalTrial]:
    if not (results / name / MANIFEST).exists():
        return []
    store, found = RecordStore(results, name), dict[str, LocalTrial]()
    for arm, seeds in store.manifest().arms.items():
        for seed, trial_id in seeds.items():
            folder = store.trial(trial_id)
            if trial_id not in found and folder.summary() is not None:  # seeds share a trial where nothing is trained
                phase = "baseline" if is_deterministic(folder.config()) else "confirm"
                found[trial_id] = _read_trial(folder, TrialRun(trial_id, name, arm, seed, phase))
    return list(found.values())


def _read_trial(folder: TrialFolder, run: TrialRun) -> LocalTrial:
    summary = folder.summary()
    assert summary is not None  # only finished records are read
    return LocalTrial(TrackedTrial(run, folder.config()), tuple(folder.read_log()), summary)


class _PointFinder:
    """Finds the point of a search that a record belongs to: by its id, or by its settings without the seed."""

    def __init__(self, path: Path, result: SearchResult | None) -> None:
        self.by_id: dict[str, SearchPoint] = {}
        self.by_settings: dict[str, SearchPoint] = {}
        for point in () if result is None else result.points:
            for trial_id in point.trial_ids:
                self.by_id.setdefault(trial_id, point)  # a duplicate is the first point's record
                folder = TrialFolder(path / trial_id)
                if folder.has_started():
                    self.by_settings.setdefault(_settings(folder), point)

    def find(self, folder: TrialFolder, name: str) -> TrialRun | None:
        point = self.by_id.get(folder.trial_id) or self.by_settings.get(_settings(folder))
        if point is None:
            return None
        about = (name, point.arm, folder.config()["seed"], "search", point.number, dict(point.params))
        return TrialRun(folder.trial_id, *about)


def _settings(folder: TrialFolder) -> str:
    return content_hash({key: value for key, value in folder.config().items() if key != "seed"})
