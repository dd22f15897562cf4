"""A search's storage, read only: what `plan` and `status` look at while others may be writing.

Nothing is created, no table and no file; a SQLite file is opened read only, and in WAL mode a reader neither waits for
a writer nor makes one wait. Loads no torch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from harness.errors import UserError
from harness.search.storage_connection import cause_of
from harness.search.storage_url import optuna_url, sqlite_path, storage_url

READ_TIMEOUT_S = 5


@dataclass(frozen=True)
class StoredArm:
    """One arm's study as it is stored: its trials by number, and the study's attributes."""

    trials: tuple[FrozenTrial, ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)


def read_study(place: str | Path, name: str, arms: Iterable[str]) -> dict[str, StoredArm]:
    """Read the arms of a sweep; one that is not there (yet) has no trials.

    Args:
        place: a SQLite file, or what the sweep says of its storage.
        name: the sweep's name; an arm's study is `NAME/ARM`.

    Raises:
        UserError: the storage is there, and cannot be read.
    """
    empty = {arm: StoredArm() for arm in arms}
    url = storage_url(place)
    path = sqlite_path(url)
    if path is not None and not path.exists():
        return empty
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seen = str(path) if path is not None else f"the storage of {name}"
    try:
        storage = _open_sqlite(path) if path is not None else _open_server(url)
    except (SQLAlchemyError, StorageInternalError, RuntimeError, ImportError) as error:
        if _lacks_tables(error):
            return empty
        raise UserError(f"{seen}: cannot be read: {cause_of(error)}") from error
    try:
        return {arm: _read_arm(storage, f"{name}/{arm}") for arm in empty}
    except (SQLAlchemyError, StorageInternalError) as error:
        if _lacks_tables(error):
            return empty
        raise UserError(f"{seen}: cannot be read: {cause_of(error)}") from error
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _lacks_tables(error: BaseException) -> bool:
    """Whether the storage is new: nobody has made its tables, or another process is just doing so."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return "no such table" in str(cause) or isinstance(cause, ProgrammingError)


def _open_sqlite(path: Path) -> RDBStorage:
    def connect() -> sqlite3.Connection:
        # Nobody has it open when it has no WAL beside it; to read one, SQLite would make it, and leave it there.
        how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
        uri = f"{path.resolve().as_uri()}?{how}"
        return sqlite3.connect(uri, uri=True, timeout=READ_TIMEOUT_S, check_same_thread=False)

    # The connections are made by `connect`: the URL only names the dialect, and a path may hold any sign.
    return _read_only("sqlite:///study.db", {"creator": connect, "poolclass": NullPool})


def _open_server(url: sqlalchemy.URL) -> RDBStorage:
    return _read_only(optuna_url(url), {"connect_args": {"connect_timeout": READ_TIMEOUT_S}, "poolclass": NullPool})


def _read_only(url: str, options: dict[str, Any]) -> RDBStorage:
    return RDBStorage(url, options, skip_compatibility_check=True, skip_table_creation=True)


def _read_arm(storage: RDBStorage, study: str) -> StoredArm:
    try:
        study_id = storage.get_study_id_from_name(study)
    except KeyError:
        return StoredArm()
    trials = storage.get_all_trials(study_id, deepcopy=False)
    return StoredArm(tuple(trials), storage.get_study_user_attrs(study_id))
