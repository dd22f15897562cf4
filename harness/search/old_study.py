"""Searches from before their records were their storage: read from the database that they had, which is not written to.

Their trials lie in Optuna's tables, in `RESULTS/NAME/study.db` or on the server that the sweep named, one study an arm.
What has ended there is taken over as points; the rest follows from the records. Loads no torch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from harness.errors import UserError
from harness.records.points import EndedTrial
from harness.records.search import PointState
from harness.search.storage_url import cause_of, optuna_url, sqlite_path, storage_url

TIMEOUT_S = 10
STATES: Mapping[TrialState, PointState] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class OldArm:
    """One arm's study: its trials that have ended, and what it was begun with (`fingerprint`, `execution`)."""

    ended: tuple[EndedTrial, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)


def read_old(place: str | Path, name: str, arms: Iterable[str]) -> dict[str, OldArm]:
    """Read the arms of a sweep; one that is not there has no trials.

    Args:
        place: a SQLite file, or what the sweep says of its storage.
        name: the sweep's; an arm's study is `NAME/ARM`.

    Raises:
        UserError: the storage is there, and cannot be read.
    """
    url = storage_url(place)
    path = sqlite_path(url)
    if path is not None and not path.exists():
        return {arm: OldArm() for arm in arms}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = _open(path, optuna_url(url))
        try:
            return {arm: _read_arm(storage, f"{name}/{arm}", arm) for arm in arms}
        finally:
            storage.remove_session()
            storage.engine.dispose()
    except (SQLAlchemyError, StorageInternalError, RuntimeError, ImportError) as error:
        seen = str(path) if path is not None else f"the storage of {name}"
        raise UserError(f"{seen}: cannot be read: {cause_of(error)}") from error


def _open(path: Path | None, url: str) -> RDBStorage:
    options: dict[str, Any] = {"connect_args": {"connect_timeout": TIMEOUT_S}}
    if path is not None:

        def connect() -> sqlite3.Connection:
            # Nobody has it open when it has no WAL beside it; to read one, SQLite would make it, and leave it there.
            how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
            uri = f"{path.resolve().as_uri()}?{how}"
            return sqlite3.connect(uri, uri=True, timeout=TIMEOUT_S, check_same_thread=False)

        # The connections are made by `connect`: the URL only names the dialect, and a path may hold any sign.
        url, options = "sqlite:///study.db", {"creator": connect}
    options["poolclass"] = NullPool
    return RDBStorage(url, options, skip_compatibility_check=True, skip_table_creation=True)


def _read_arm(storage: RDBStorage, study_name: str, arm: str) -> OldArm:
    try:
        study = optuna.load_study(study_name=study_name, storage=storage)
    except KeyError:
        return OldArm()
    trials = study.get_trials(deepcopy=False)
    ended = [_ended(arm, trial) for trial in trials if trial.state.is_finished()]
    return OldArm(tuple(ended), study.user_attrs)


def _ended(arm: str, trial: FrozenTrial) -> EndedTrial:
    attrs = trial.user_attrs
    return EndedTrial(
        arm=arm,
        number=trial.number,
        state=STATES[trial.state],
        params=attrs.get("settings", {}),
        values=tuple(trial.values) if trial.state == TrialState.COMPLETE else (),
        valid=attrs.get("valid", {}),
        violations=tuple(attrs.get("violations", ())),
        trial_ids=tuple(attrs.get("trial_ids", ())),
        reason=attrs.get("reason"),
        epochs=attrs.get("epochs", 0),
        seconds=attrs.get("seconds", 0.0),
        drawn=trial.params,
        steps=trial.intermediate_values,
        message=attrs.get("message"),
    )
