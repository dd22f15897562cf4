"""Optuna's view of a search: its points, written through Optuna's public API to a storage that Optuna's tools read.

An export is never read back. It may fail, be deleted or be late; it is made again from the points. One study an arm,
`SWEEP/ARM`, with what was trained: real values of the settings, Optuna's own constraints, reasons of failures, names.

    points/ARM/*.json (or search.json) --> study SWEEP/ARM in results/SWEEP/study.db, PostgreSQL, MySQL
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, create_trial
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from harness.config.sweep import ConstraintSettings, Parameter, ZeroOrLogParameter
from harness.errors import UserError
from harness.records.files import first_problem, read_json
from harness.records.frozen import read_frozen
from harness.records.points import EndedTrial, Points
from harness.records.search import Objective, read_search
from harness.search import space
from harness.search.arm_search import STATES
from harness.search.storage_url import DRIVERS, cause_of, optuna_url, shown, sqlite_path, storage_url

MARK = "harness_fingerprint"  # a study's user attribute: this export made it, of this search
TIMEOUT_S = 10


class _Named(BaseModel):
    name: str


class _About(BaseModel):
    """What an export needs of a sweep.json."""

    name: str
    objectives: tuple[Objective, ...]
    space: dict[str, dict[str, Parameter]]
    constraints: tuple[ConstraintSettings, ...]
    sampler: _Named
    fingerprint: str


@dataclass(frozen=True)
class Exported:
    """What an export has written now, and how many trials it has in all."""

    place: str
    num_new: int
    num_trials: int


class Export:
    """An open export of the sweep in a folder, `RESULTS/NAME`.

    Args:
        place: a SQLite file, or what a sweep may say as its `storage`.

    Raises:
        UserError: the sweep's sweep.json is missing, corrupt or older, or the storage cannot be used; also from
            `update`.
    """

    def __init__(self, folder: Path, place: str | Path) -> None:
        self.folder = folder
        self.about = read_declared(folder)
        url = storage_url(place)
        self.place = shown(url)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage: RDBStorage = self._try(lambda: _open(url))
        self._studies: dict[str, Study] = {}

    def close(self) -> None:
        """Close its connections."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def update(self) -> Exported:
        """Write the trials that have ended since; those that ended before an earlier one wait for that."""
        counts = [self._try(lambda arm=arm: self._update_arm(arm)) for arm in self.about.space]
        return Exported(self.place, sum(new for new, _ in counts), sum(every for _, every in counts))

    def _try(self, action: Any) -> Any:
        try:
            return action()
        except (SQLAlchemyError, StorageInternalError, sqlite3.Error, OSError, RuntimeError, TypeError) as error:
            raise UserError(f"{self.place}: the export to it failed: {cause_of(error)}") from error

    def _update_arm(self, arm: str) -> tuple[int, int]:
        points = self._points(arm)
        study = self._studies.get(arm) or self._study(arm, points)
        self._studies[arm] = study
        before = number = len(study.get_trials(deepcopy=False))
        while number in points:
            study.add_trial(self._trial(arm, points[number]))
            number += 1
        return number - before, number

    def _points(self, arm: str) -> dict[int, EndedTrial]:
        on_disk = Points(self.folder, arm).read_all()
        result = None if on_disk else read_search(self.folder)
        published = [] if result is None else [point for point in result.points if point.arm == arm]
        return on_disk or {point.number: EndedTrial(**dict(point)) for point in published}

    def _study(self, arm: str, points: Mapping[int, EndedTrial]) -> Study:
        """The study of an arm: the one that is there, if it is an export of these very trials; else a new one."""
        name = f"{self.about.name}/{arm}"
        known = {study.study_name: study for study in optuna.get_all_study_summaries(storage=self._storage)}
        if name in known and MARK not in known[name].user_attrs:
            name += " (export)"  # somebody else's study, or that of an older version: it stays as it is
        if name in known:
            study = optuna.load_study(study_name=name, storage=self._storage)
            if known[name].user_attrs[MARK] == self.about.fingerprint and self._holds(study, arm, points):
                return study
            optuna.delete_study(study_name=name, storage=self._storage)
        directions = [objective.direction for objective in self.about.objectives]
        study = optuna.create_study(study_name=name, storage=self._storage, directions=directions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([objective.metric for objective in self.about.objectives])
        study.set_user_attr("sweep", self.about.name)
        study.set_user_attr("arm", arm)
        study.set_user_attr(MARK, self.about.fingerprint)
        return study

    def _holds(self, study: Study, arm: str, points: Mapping[int, EndedTrial]) -> bool:
        """Whether a study has the trials of the points; each follows from those before it, so the last one tells."""
        trials = study.get_trials(deepcopy=False)
        if not trials:
            return True
        last = trials[-1]
        if last.number not in points:
            return False
        made = self._trial(arm, points[last.number])
        return (made.state, made.values, made.params) == (last.state, last.values, last.params)

    def _trial(self, arm: str, point: EndedTrial) -> FrozenTrial:
        grid = self.about.sampler.name == "grid"
        told = {"arm": arm, "trial_ids": list(point.trial_ids), "seconds": point.seconds, "epochs": point.epochs}
        told |= {"valid": point.valid} if point.valid else {}
        told |= {"reason": point.reason, "message": point.message} if point.state == "failed" else {}
        trial = create_trial(
            state=STATES[point.state],
            values=list(point.values) or None,
            params=point.params,
            distributions={key: real_distribution(p, grid) for key, p in self.about.space[arm].items()},
            user_attrs=told,
            intermediate_values=point.steps,
            # The same once more, as Optuna wrote them before version 5: optuna-dashboard (0.21) reads no others.
            system_attrs={"constraints": list(point.violations)} if point.violations else {},
            constraints=dict(zip(map(_name_of, self.about.constraints), point.violations, strict=False)),
        )
        ended = Points(self.folder, arm).time_of(point.number)
        if ended is not None:
            trial.datetime_complete = datetime.fromtimestamp(ended)
            trial.datetime_start = trial.datetime_complete - timedelta(seconds=point.seconds)
        return trial


def real_distribution(parameter: Parameter, grid: bool) -> BaseDistribution:
    """The distribution of the values that are trained, in which zero may lie beside a logarithmic range."""
    if isinstance(parameter, ZeroOrLogParameter) and not grid:
        return FloatDistribution(0.0, parameter.high)
    return space.distribution(parameter, grid)


def _name_of(constraint: ConstraintSettings) -> str:
    at_most = constraint.at_most is not None
    bound = constraint.at_most if at_most else constraint.at_least
    return f"{constraint.metric} {'<=' if at_most else '>='} {bound:g}"


def read_declared(folder: Path) -> _About:
    """What the sweep in a folder says of itself; nothing is written.

    Raises:
        UserError: its sweep.json is missing, corrupt or older.
    """
    path = folder / "sweep.json"
    if not path.exists():
        raise UserError(f"{path}: no such file; {folder.name} is no sweep that was begun in {folder.parent}")
    content = read_json(path)
    if isinstance(content, dict) and "space" not in content:
        content |= _published_space(folder)
    try:
        return _About.model_validate(content)
    except ValidationError as error:
        problem = first_problem(error)
        raise UserError(f"{path}: {problem}; run the sweep again, which writes what an export needs") from error


def _published_space(folder: Path) -> dict[str, Any]:
    """What an older sweep.json does not have, from the files of a search that has ended."""
    frozen, result = read_frozen(folder), read_search(folder)
    if frozen is None or result is None:
        return {}
    kept = {key: frozen[key] for key in ("constraints", "sampler", "fingerprint")}
    return {**kept, "space": {arm: {a.key: frozen["space"][a.key] for a in axes} for arm, axes in result.axes.items()}}


def _open(url: sqlalchemy.URL) -> RDBStorage:
    path = sqlite_path(url)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(path, timeout=TIMEOUT_S, check_same_thread=False)
            connection.execute("PRAGMA synchronous = OFF")  # whatever a power cut takes is exported again
            return connection

        # The connections are made by `connect`: the URL only names the dialect, and a path may hold any sign.
        return RDBStorage("sqlite:///study.db", {"creator": connect, "poolclass": NullPool})
    try:
        options = {"connect_args": {"connect_timeout": TIMEOUT_S}, "pool_pre_ping": True}
        return RDBStorage(optuna_url(url), options)
    except (ImportError, NoSuchModuleError) as error:
        driver, package = DRIVERS[url.get_backend_name()]
        named = url.get_driver_name()
        own = f"write {url.get_backend_name()}+{driver}:// or install it"
        advice = f"pip install '{package}'" if named == driver else own
        raise UserError(f"{shown(url)}: the driver {named} is missing: {advice}") from error
