"""Connecting to a search's storage: SQLite by path, a server by URL; every mistake of the user in one line."""

from __future__ import annotations

import random
import sqlite3
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError

from harness.errors import UserError, first_line
from harness.search.storage_url import DRIVERS, optuna_url, shown, sqlite_path, storage_url

BUSY_TIMEOUT_S = 60
MAX_TRIES = 8
T = TypeVar("T")


def retry(action: Callable[[], T], shown_url: str) -> T:
    """Try again, a few seconds long, what fails for reasons that pass: a lock, a deadlock, a lost connection."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S  # a try may have waited that long for a lock
    for tried in range(1, MAX_TRIES + 1):
        try:
            return action()
        except (StorageInternalError, SQLAlchemyError) as error:
            cause = error if isinstance(error, SQLAlchemyError) else error.__cause__
            if tried == MAX_TRIES or time.monotonic() > deadline or not isinstance(cause, OperationalError):
                raise UserError(f"{shown_url}: the storage of the search failed: {cause_of(error)}") from error
        # An unseeded draw: no result depends on how long this wait is.
        time.sleep(random.uniform(0.5, 1.0) * min(2.0, 0.05 * 2**tried))
    raise AssertionError("unreachable")


def open_storage(url_or_path: str | Path, heartbeat_s: int, grace_s: int) -> tuple[RDBStorage, str]:
    """Connect and make the tables; the storage, and its URL without a password."""
    url = storage_url(url_or_path)
    seen, path = shown(url), sqlite_path(url)
    if path is not None:
        # The connections are made by `creator`: the URL only names the dialect, and a path may hold any sign.
        text = "sqlite:///search.db"
        _check_sqlite(path)
        options: dict[str, Any] = {"creator": lambda: _connect_sqlite(path)}
    else:
        options = {"connect_args": {"connect_timeout": 10}, "pool_pre_ping": True}
        _check_server(url, seen, options)
        text = optuna_url(url)

    def make() -> RDBStorage:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats
            return RDBStorage(text, dict(options), heartbeat_interval=heartbeat_s, grace_period=grace_s)

    for _ in range(MAX_TRIES):  # several processes may make the tables at once; all but one of them fail
        try:
            storage = make()
            break
        except (SQLAlchemyError, StorageInternalError):
            time.sleep(random.uniform(0.1, 0.5))
        except RuntimeError as error:  # tables of another version of Optuna
            raise UserError(f"{seen}: {cause_of(error)}") from error
    else:
        storage = retry(make, seen)
    if storage.engine.name != "sqlite":
        storage.engine.dispose()
        sqlalchemy.event.listen(storage.engine, "connect", _use_utc)
    return storage, seen


def _connect_sqlite(path: Path) -> sqlite3.Connection:
    # Autocommit as far as the driver goes: SQLAlchemy's "begin" event says how transactions begin (its documented way).
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:  # reads the file already; with WAL, a power cut may cost the last commits but never the file
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_sqlite(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = _connect_sqlite(path)
    except (OSError, sqlite3.Error) as error:
        raise UserError(f"{path}: cannot be opened as a SQLite file: {cause_of(error)}; name another one") from error
    try:
        _retry_sqlite(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchall())  # stays with the file
        connection.execute("BEGIN IMMEDIATE").execute("ROLLBACK")
    except sqlite3.Error as error:
        raise UserError(
            f"{path}: cannot be used as a SQLite file: {cause_of(error)}; check it and its folder's permissions, "
            "or name another file"
        ) from error
    finally:
        connection.close()


def _retry_sqlite(action: Callable[[], object]) -> None:
    """The busy timeout does not cover a change of the journal's mode."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            action()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0.02, 0.1))


def _check_server(url: sqlalchemy.URL, seen: str, options: Mapping[str, Any]) -> None:
    """Connect once, to tell the user's mistakes from everything that may fail later."""
    try:
        engine = sqlalchemy.create_engine(url, **options)
    except (ImportError, NoSuchModuleError) as error:
        driver, package = DRIVERS[url.get_backend_name()]
        named = url.get_driver_name()
        advice = (
            f"pip install '{package}'"
            if named == driver
            else f"write {url.get_backend_name()}+{driver}:// or install it"
        )
        raise UserError(f"storage {seen}: the driver {named} is missing: {advice}") from error
    try:
        engine.connect().close()
    except (DBAPIError, TypeError) as error:  # the latter: the driver does not know an option of the URL
        raise UserError(
            f"storage {seen}: no connection: {cause_of(error)}; check host, port, user, password and database"
        ) from error
    finally:
        engine.dispose()


def _use_utc(connection: Any, _: Any) -> None:
    # Heartbeats are compared in the session's time zone, which may jump by an hour in spring.
    cursor = connection.cursor()
    is_mysql = "mysql" in type(connection).__module__.lower()
    cursor.execute("SET time_zone = '+00:00'" if is_mysql else "SET TIME ZONE 'UTC'")
    cursor.close()
    connection.commit()


def cause_of(error: BaseException) -> str:
    """The database's own words in one line, from under the layers that raised it again."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ is not None else error
    reason = getattr(cause, "orig", None) or cause
    return first_line(reason)
