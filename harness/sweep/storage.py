"""The durable store of a search: numbers, claims and results of one arm's trials, in Optuna's own tables.

What a trial is made of is decided elsewhere (`mirror.py`); here several processes, on several machines if the storage
is a server, agree on who trains what. SQLite is the default and works on one machine (its WAL needs shared memory), in
any number of processes. `optuna-dashboard` and every other reader of Optuna's storages can read it.

A trial is claimed, taken over and released in one transaction each, which locks the study's row (SQLite: the file), so
a kill at any point leaves either nothing or a running trial with an owner. Whether an owner is dead is told by its
process if that is one of this machine (pid and start time: a recycled pid is another process), by its heartbeat if it
is another machine's, or another container's over one SQLite file.
"""

from __future__ import annotations

import json
import math
import os
import random
import socket
import sqlite3
import subprocess
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from harness.errors import UserError

HEARTBEAT_S = 30
GRACE_S = 150  # several heartbeats: a busy machine must not lose its trials
BUSY_TIMEOUT_S = 60
MAX_TRIES = 8
DRIVERS = {"postgresql": ("psycopg", "psycopg[binary]"), "mysql": ("pymysql", "pymysql")}  # SQLAlchemy's name, pip's
CHOICES = "a path of a SQLite file, postgresql://USER:PASSWORD@HOST/DATABASE or mysql://USER:PASSWORD@HOST/DATABASE"
T = TypeVar("T")

_open_stores: set[str] = set()  # of this process: a trial whose store was closed belongs to nobody


class StudyStore:
    """One Optuna study: one arm of one sweep. Opened by name, made if it is not there.

    Methods that write to a trial leave a finished one as it is and return False.

    Args:
        url_or_path: a path of a SQLite file, or the URL of a server.
        directions: of the objectives.

    Raises:
        UserError: the storage cannot be used, or the study exists with other directions. Also from every method, when
            the storage does not answer for a while.
    """

    def __init__(
        self,
        url_or_path: str | Path,
        study_name: str,
        directions: Sequence[Literal["maximize", "minimize"]],
        *,
        heartbeat_s: int = HEARTBEAT_S,
        grace_s: int = GRACE_S,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study_name = study_name
        self.storage, self.shown_url = _open_storage(url_or_path, heartbeat_s, grace_s)
        self._reading = threading.local()
        if self.storage.engine.name == "sqlite":
            sqlalchemy.event.listen(self.storage.engine, "begin", self._begin_sqlite)
        self._owner = {**this_process(), "store": uuid.uuid4().hex}
        self._held: set[int] = set()
        self._seen: dict[int, FrozenTrial] = {}
        self._closing = threading.Event()
        self._heart: threading.Thread | None = None
        _open_stores.add(self._owner["store"])
        try:
            self.study_id = self._open_study([StudyDirection[direction.upper()] for direction in directions])
        except BaseException:
            self.close()
            raise

    def _begin_sqlite(self, connection: sqlalchemy.Connection) -> None:
        # A transaction that reads first and then writes fails at once if another one has written in between, whatever
        # the busy timeout is. IMMEDIATE waits for its turn before it reads.
        connection.exec_driver_sql("BEGIN" if getattr(self._reading, "now", False) else "BEGIN IMMEDIATE")

    def _open_study(self, directions: list[StudyDirection]) -> int:
        def find_or_create() -> int:
            try:
                return self.storage.get_study_id_from_name(self.study_name)
            except KeyError:
                return self.storage.create_new_study(directions, self.study_name)

        try:
            study_id = self._try(find_or_create)
        except DuplicatedStudyError:  # another process was faster
            study_id = self._try(find_or_create)
        found = self._try(lambda: self.storage.get_study_directions(study_id))
        if found != directions:
            names = [", ".join(direction.name.lower() for direction in each) for each in (found, directions)]
            raise UserError(
                f"{self.shown_url}: study {self.study_name} exists with the directions {names[0]}, not {names[1]}; "
                "give the sweep another name, or the objectives of the study"
            )
        return study_id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Trials that are still running may be taken over from now on."""
        _open_stores.discard(self._owner["store"])
        self._closing.set()
        if self._heart is not None:
            self._heart.join()
        self.storage.remove_session()
        self.storage.engine.dispose()

    def attrs(self) -> dict[str, Any]:
        """The study's user attributes."""
        return self._read(lambda: self.storage.get_study_user_attrs(self.study_id))

    def set_attr(self, key: str, value: Any) -> None:
        """Set one user attribute of the study (JSON)."""
        self._try(lambda: self.storage.set_study_user_attr(self.study_id, key, value))

    def trials(self) -> list[FrozenTrial]:
        """All trials by number, not copied: change nothing in them. Finished ones are read once."""
        unfinished = {trial._trial_id for trial in self._seen.values() if not trial.state.is_finished()}
        newest = max((trial._trial_id for trial in self._seen.values()), default=-1)
        for trial in self._read(lambda: self.storage._get_trials(self.study_id, None, unfinished, newest)):
            self._seen[trial.number] = trial
        return [self._seen[number] for number in sorted(self._seen)]

    def claim(self, limit: int) -> FrozenTrial | None:
        """Claim the lowest waiting trial, or a new one, for this process; it is running then.

        Args:
            limit: only numbers below it are claimed.

        Returns:
            The trial; None when all `limit` trials are claimed already.
        """

        def claim() -> int | None:
            with self._transaction() as session:
                waiting = session.query(models.TrialModel).filter_by(study_id=self.study_id, state=TrialState.WAITING)
                lowest = waiting.filter(models.TrialModel.number < limit).order_by(models.TrialModel.number)
                trial = lowest.with_for_update().first()
                if trial is None:
                    number = session.query(models.TrialModel).filter_by(study_id=self.study_id).count()
                    if number >= limit:
                        return None
                    trial = models.TrialModel(study_id=self.study_id, number=number)
                    session.add(trial)
                trial.state, trial.datetime_start = TrialState.RUNNING, datetime.now()
                session.flush()
                return self._own(session, int(trial.trial_id))

        trial_id = self._try(claim)
        return None if trial_id is None else self._hold(trial_id)

    def orphans(self) -> list[FrozenTrial]:
        """Running trials whose owner is dead."""

        def read() -> tuple[list[FrozenTrial], set[int]]:
            running = self.storage.get_all_trials(self.study_id, deepcopy=False, states=(TrialState.RUNNING,))
            return running, set(self.storage._get_stale_trial_ids(self.study_id)) if running else set()

        running, stale = self._read(read)
        return [trial for trial in running if self._is_orphan(trial.user_attrs.get("owner"), trial._trial_id in stale)]

    def _is_orphan(self, owner: Mapping[str, Any] | None, is_stale: bool) -> bool:
        if owner is None:
            return is_stale  # claimed by something else than this module
        if any(owner[key] != self._owner[key] for key in ("host", "boot")):
            return is_stale
        if (owner["pid"], owner["started"]) == (self._owner["pid"], self._owner["started"]):
            return owner["store"] not in _open_stores
        return start_of(owner["pid"]) != owner["started"]

    def take_over(self, trial: FrozenTrial) -> bool:
        """Become the owner of an orphan; False when another process was faster, or the trial has ended."""

        def take() -> bool:
            with self._transaction() as session:
                found = models.TrialModel.find_or_raise_by_id(trial._trial_id, session, for_update=True)
                if found.state != TrialState.RUNNING or self._owner_of(session, found) != trial.user_attrs.get("owner"):
                    return False
                self._own(session, trial._trial_id)
                return True

        return self._try(take) and self._hold(trial._trial_id) is not None

    def release(self, trial: FrozenTrial) -> bool:
        """Give a trial back, unfinished, to whoever claims next; False when this store does not own it."""

        def release() -> bool:
            with self._transaction() as session:
                found = models.TrialModel.find_or_raise_by_id(trial._trial_id, session, for_update=True)
                if found.state != TrialState.RUNNING or self._owner_of(session, found) != self._owner:
                    return False
                found.state = TrialState.WAITING
                return True

        self._held.discard(trial._trial_id)
        return self._try(release)

    def set_params(
        self, trial_id: int, params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
    ) -> bool:
        """Write a trial's parameters (as in `FrozenTrial.params`), all or none; those that it has stay."""

        def write(session: Session) -> None:
            known = {item.param_name for item in session.query(models.TrialParamModel).filter_by(trial_id=trial_id)}
            for name in params.keys() - known:
                internal = distributions[name].to_internal_repr(params[name])
                self.storage._set_trial_param_without_commit(session, trial_id, name, internal, distributions[name])

        return self._write(trial_id, write)

    def set_user_attrs(self, trial_id: int, attrs: Mapping[str, Any]) -> bool:
        """Set user attributes (JSON), all or none."""

        def write(session: Session) -> None:
            for key, value in attrs.items():
                self._set_attr(session, trial_id, key, value)

        return self._write(trial_id, write)

    def report(self, trial_id: int, step: int, value: float) -> bool:
        """Set the intermediate value of a step."""
        return self._write(
            trial_id,
            lambda session: self.storage._set_trial_intermediate_value_without_commit(session, trial_id, step, value),
        )

    def tell(self, trial_id: int, state: TrialState, values: Sequence[float] | None) -> bool:
        """Finish a trial; True if it was this call that did."""
        assert state.is_finished() and not any(math.isnan(value) for value in values or ())
        try:
            return self._try(lambda: self.storage.set_trial_state_values(trial_id, state, values))
        except UpdateFinishedTrialError:
            return False
        finally:
            self._held.discard(trial_id)

    def _own(self, session: Session, trial_id: int) -> int:
        """Write down this store as the owner, and a first heartbeat."""
        self._set_attr(session, trial_id, "owner", self._owner)
        session.query(models.TrialHeartbeatModel).filter_by(trial_id=trial_id).delete()
        session.add(models.TrialHeartbeatModel(trial_id=trial_id))
        return trial_id

    def _owner_of(self, session: Session, trial: models.TrialModel) -> Any:
        attribute = models.TrialUserAttributeModel.find_by_trial_and_key(trial, "owner", session)
        return None if attribute is None else json.loads(str(attribute.value_json))

    def _set_attr(self, session: Session, trial_id: int, key: str, value: Any) -> None:
        self.storage._set_trial_attr_without_commit(session, models.TrialUserAttributeModel, trial_id, key, value)

    def _hold(self, trial_id: int) -> FrozenTrial:
        """Keep the trial's heart beating from now on."""
        self._held.add(trial_id)
        if self._heart is None:
            self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._heart.start()
        return self._read(lambda: self.storage.get_trial(trial_id))

    def _beat(self) -> None:
        while not self._closing.wait(self.storage.heartbeat_interval):
            for trial_id in [*self._held]:
                try:
                    self.storage.record_heartbeat(trial_id)
                except (StorageInternalError, SQLAlchemyError):
                    break  # the next beat may get through; after the grace period others take over
        self.storage.remove_session()

    def _write(self, trial_id: int, write: Callable[[Session], None]) -> bool:
        def attempt() -> bool:
            with self._transaction() as session:
                trial = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
                if trial.state.is_finished():  # asked here: Optuna's own check opens a second transaction inside this
                    return False
                write(session)
                return True

        return self._try(attempt)

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        """One transaction that has this study's numbers and claims for itself."""
        with Session(self.storage.engine) as session, session.begin():
            session.query(models.StudyModel).filter_by(study_id=self.study_id).with_for_update().one()
            yield session

    def _read(self, read: Callable[[], T]) -> T:
        """`_try` for what only reads: it waits for no writer."""
        self._reading.now = True
        try:
            return self._try(read)
        finally:
            self._reading.now = False

    def _try(self, action: Callable[[], T]) -> T:
        return _retry(action, self.shown_url)


def _retry(action: Callable[[], T], shown_url: str) -> T:
    """Try again, a few seconds long, what fails for reasons that pass: a lock, a deadlock, a lost connection."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S  # a try may have waited that long for a lock
    for tried in range(1, MAX_TRIES + 1):
        try:
            return action()
        except (StorageInternalError, SQLAlchemyError) as error:
            cause = error if isinstance(error, SQLAlchemyError) else error.__cause__
            if tried == MAX_TRIES or time.monotonic() > deadline or not isinstance(cause, OperationalError):
                raise UserError(f"{shown_url}: the storage of the search failed: {_first_line(error)}") from error
        time.sleep(
            random.uniform(0.5, 1.0) * min(2.0, 0.05 * 2**tried)
        )  # private to this wait: no result depends on it
    raise AssertionError("unreachable")


def _open_storage(url_or_path: str | Path, heartbeat_s: int, grace_s: int) -> tuple[RDBStorage, str]:
    """Connect and make the tables; the storage, and its URL without a password."""
    if isinstance(url_or_path, str) and "://" in url_or_path:
        url = _parse(url_or_path)
    else:
        url = sqlalchemy.URL.create("sqlite", database=os.fspath(url_or_path))
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "")
        shown, text = (
            str(path),
            "sqlite:///search.db",
        )  # the connections are made by `creator`: a path may hold any sign
        _check_sqlite(path)
        options: dict[str, Any] = {"creator": lambda: _connect_sqlite(path)}
    else:
        shown = _shown(url)
        options = {"connect_args": {"connect_timeout": 10}, "pool_pre_ping": True}
        _check_server(url, shown, options)
        text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")  # Optuna formats it

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
            raise UserError(f"{shown}: {_first_line(error)}") from error
    else:
        storage = _retry(make, shown)
    if storage.engine.name != "sqlite":
        storage.engine.dispose()
        sqlalchemy.event.listen(storage.engine, "connect", _use_utc)
    return storage, shown


def _parse(text: str) -> sqlalchemy.URL:
    scheme = text.partition("://")[0]
    try:
        url = sqlalchemy.make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):  # their messages may hold the password
        raise UserError(f"storage {scheme}://...: not a URL; give {CHOICES}") from None
    if backend not in (*DRIVERS, "sqlite"):
        raise UserError(f"storage {_shown(url)}: unknown kind of storage {scheme!r}; give {CHOICES}")
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        raise UserError(f"storage {text}: a search is not kept in memory; give {CHOICES}")
    if backend in DRIVERS and "+" not in scheme:
        url = url.set(drivername=f"{backend}+{DRIVERS[backend][0]}")
    return url


def _shown(url: sqlalchemy.URL) -> str:
    """The URL, fit for eyes."""
    secret = [key for key in url.query if "pass" in key.lower()]
    return url.difference_update_query(secret).render_as_string(hide_password=True)


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
        raise UserError(f"{path}: cannot be opened as a SQLite file: {_first_line(error)}; name another one") from error
    try:
        _retry_sqlite(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchall())  # stays with the file
        connection.execute("BEGIN IMMEDIATE").execute("ROLLBACK")
    except sqlite3.Error as error:
        raise UserError(
            f"{path}: cannot be used as a SQLite file: {_first_line(error)}; check it and its folder's permissions, "
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


def _check_server(url: sqlalchemy.URL, shown: str, options: Mapping[str, Any]) -> None:
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
        raise UserError(f"storage {shown}: the driver {named} is missing: {advice}") from error
    try:
        engine.connect().close()
    except (DBAPIError, TypeError) as error:  # the latter: the driver does not know an option of the URL
        raise UserError(
            f"storage {shown}: no connection: {_first_line(error)}; check host, port, user, password and database"
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


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ is not None else error
    reason = getattr(cause, "orig", None) or cause
    return (str(reason).splitlines() or [type(reason).__name__])[0].strip()


def this_process() -> dict[str, Any]:
    """What identifies this process among all machines' processes, past and present."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        boot += f"/{os.readlink('/proc/self/ns/pid')}"  # containers count their processes separately
    except OSError:
        boot = ""
    return {"host": socket.gethostname(), "boot": boot, "pid": os.getpid(), "started": start_of(os.getpid())}


def start_of(pid: int) -> str | None:
    """When a process of this machine started, in whatever units; None if it is gone (a zombie is)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # a command may hold brackets
        return None if fields[0] in "ZX" else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
