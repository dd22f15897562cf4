"""What `harness sync` sends: the finished records of one experiment or sweep, and the sweep's study-level run.

experiment.json gives arm and seed of the records in records/, search.json arm and number of those in search/. A race's
records are in search/ too, but in no point: they have a point's settings on another seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config.base import content_hash
from harness.errors import UserError
from harness.records.packed import RECORDS
from harness.records.schema import Summary
from harness.records.search import SearchPoint, SearchResult
from harness.records.store import MANIFEST, RecordStore, TrialFolder, read_json
from harness.tables.build import build_table
from harness.tables.load import any_finished
from harness.tables.model import Table
from harness.tracking.client import trial_content
from harness.tracking.study_run import Study, make_study
from harness.tracking.tracker import TrialRun


@dataclass(frozen=True)
class LocalTrial:
    """A finished record, as it goes to W&B."""

    run: TrialRun
    entries: tuple[dict[str, Any], ...]
    summary: Summary

    @property
    def content(self) -> str:
        """The hash of log and summary."""
        return trial_content(self.entries, self.summary)


@dataclass(frozen=True)
class LocalRuns:
    """Everything of one experiment or sweep.

    Attributes:
        num_unknown: finished search records that no point of search.json explains yet (the search still runs).
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
    if name not in find_names(results):
        choices = ", ".join(find_names(results)) or "nothing has been run there"
        raise UserError(f"no results of {name!r} in {results}; choices: {choices}")
    path = results / name
    result = _read_search(path)
    found = {trial.run.trial_id: trial for trial in _confirm_trials(results, name)}
    points = _PointFinder(path / "search", result)
    num_unknown = 0
    for folder in RecordStore(results, name).finished("search"):
        point = points.find(folder)
        if point is None:
            num_unknown += 1
            continue
        trial = _read_trial(folder, name, point.arm, "search", point)
        found.setdefault(trial.run.trial_id, trial)
    return LocalRuns(tuple(found.values()), _read_study(results, name, result), num_unknown)


def _read_search(path: Path) -> SearchResult | None:
    if not (path / "search.json").exists():
        return None
    try:
        return SearchResult.model_validate(read_json(path / "search.json"))
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(f"{path / 'search.json'}: {problem['loc']}: {problem['msg']}") from error


def _confirm_trials(results: Path, name: str) -> Iterator[LocalTrial]:
    if not (results / name / MANIFEST).exists():
        return
    store = RecordStore(results, name)
    for arm, seeds in store.manifest().arms.items():
        for trial_id in seeds.values():
            folder = store.trial(trial_id)
            if folder.summary() is not None:
                yield _read_trial(folder, name, arm, None, None)


def _read_trial(folder: TrialFolder, name: str, arm: str, phase: str | None, point: SearchPoint | None) -> LocalTrial:
    config, summary = folder.config(), folder.summary()
    assert summary is not None  # only finished records are read
    run = TrialRun(
        folder.trial_id,
        name,
        arm,
        config["seed"],
        phase or ("baseline" if config["train"] == "none" else "confirm"),
        config,
        number=None if point is None else point.number,
        params={} if point is None else dict(point.params),
    )
    return LocalTrial(run, tuple(folder.read_log()), summary)


class _PointFinder:
    """Which point of a search a record belongs to: by its id, or by its settings without the seed."""

    def __init__(self, path: Path, result: SearchResult | None) -> None:
        self.by_id: dict[str, SearchPoint] = {}
        self.by_settings: dict[str, SearchPoint] = {}
        for point in () if result is None else result.points:
            for trial_id in point.trial_ids:
                self.by_id.setdefault(trial_id, point)  # a duplicate is the first point's record
                folder = TrialFolder(path / trial_id)
                if folder.has_started():
                    self.by_settings.setdefault(_settings(folder), point)

    def find(self, folder: TrialFolder) -> SearchPoint | None:
        return self.by_id.get(folder.trial_id) or self.by_settings.get(_settings(folder))


def _settings(folder: TrialFolder) -> str:
    return content_hash({key: value for key, value in folder.config().items() if key != "seed"})


def _read_study(results: Path, name: str, result: SearchResult | None) -> Study | None:
    """The study-level run of a sweep whose winners are frozen; an experiment has none."""
    path = results / name
    if result is None or not (path / "frozen.json").exists() or not (path / MANIFEST).exists():
        return None
    frozen = read_json(path / "frozen.json")
    figures = sorted((path / "figures").glob("*.png"))
    return make_study(name, frozen.get("space"), result, _read_table(RecordStore(results, name)), figures, frozen)


def _read_table(store: RecordStore) -> Table | None:
    return build_table(store) if any_finished(store) else None
