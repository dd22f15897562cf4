"""The durable store of a search: numbers, claims and results of one arm's trials, in Optuna's own tables.

What a trial is made of is decided elsewhere (`mirror.py`); here several processes, on several machines if the storage
is a server, agree on who trains what. SQLite is the default and works on one machine (its WAL needs shared memory), in
any number of processes. `optuna-dashboard` and every other reader of Optuna's storages can read it.

A trial is claimed or taken over in one transaction, which locks the study's row (SQLite: the file), so a kill at any
point leaves either nothing or a running trial with an owner. An owner on this machine is dead if its process is (pid
and start time: a recycled pid is another process); on another machine, or in another container over one SQLite file,
if its heartbeat has stopped.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from harness.config.sweep import Goal
from harness.errors import UserError
from harness.search import owners, trial_rows
from harness.search.storage_connection import open_storage, retry
from harness.search.trial_rows import Row

HEARTBEAT_S = 30
GRACE_S = 150  # several heartbeats: a busy machine must not lose its trials
T = TypeVar("T")


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
        directions: Sequence[Goal],
        *,
        heartbeat_s: int = HEARTBEAT_S,
        grace_s: int = GRACE_S,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study_name = study_name
        self.storage, self.shown_url = open_storage(url_or_path, heartbeat_s, grace_s)
        self._reading = threading.local()
        if self.storage.engine.name == "sqlite":
            sqlalchemy.event.listen(self.storage.engine, "begin", self._begin_sqlite)
        self._owner = owners.new_owner()
        self._held: set[int] = set()
        self._seen: list[FrozenTrial] = []  # by number
        self._unfinished: set[int] = set()  # ids among them
        self._closing = threading.Event()
        self._heart: threading.Thread | None = None
        try:
            self.study_id = self._open_study([StudyDirection[direction.upper()] for direction in directions])
        except BaseException:
            self.close()
            raise

    def _begin_sqlite(self, connection: sqlalchemy.Connection) -> None:
        # In SQLite, a transaction that reads and then writes fails at once if another one has written in between,
        # whatever the busy timeout is. IMMEDIATE waits for its turn before it reads.
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
        owners.close_owner(self._owner)
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

    def set_attr_once(self, key: str, value: Any) -> Any:
        """Set a user attribute of the study unless it has one, in one transaction; what it has then."""

        def attempt() -> Any:
            with self._transaction() as connection, Session(connection) as session:
                study = models.StudyModel.find_or_raise_by_id(self.study_id, session)
                known = models.StudyUserAttributeModel.find_by_study_and_key(study, key, session)
                if known is not None:
                    return json.loads(str(known.value_json))
                text = json.dumps(value)
                session.add(models.StudyUserAttributeModel(study_id=self.study_id, key=key, value_json=text))
                session.flush()
                return value

        return self._try(attempt)

    def known(self) -> list[FrozenTrial]:
        """The trials as this store last saw them: since the last `trials`, its own claims."""
        return self._seen[:]

    def trials(self) -> list[FrozenTrial]:
        """All trials by number, not copied: change nothing in them. Finished ones are read once."""

        def read() -> list[FrozenTrial]:
            with self.storage.engine.begin() as connection:
                return trial_rows.read_trials(connection, self._open_rows(connection))

        for trial in self._read(read):
            self._see(trial)
        return self._seen[:]

    def _open_rows(self, connection: sqlalchemy.Connection) -> list[Row]:
        """The rows of the trials that this store does not know to be finished.

        In the order of their ids, which within a study is that of their numbers: `claim` gives out both at once.
        """
        newest = self._seen[-1]._trial_id if self._seen else -1
        known = trial_rows.rows_of(connection, self._unfinished) if self._unfinished else []
        return [*known, *trial_rows.rows_after(connection, self.study_id, newest)]

    def _see(self, trial: FrozenTrial) -> None:
        if trial.number == len(self._seen):
            self._seen.append(trial)
        else:
            self._seen[trial.number] = trial
        (self._unfinished.discard if trial.state.is_finished() else self._unfinished.add)(trial._trial_id)

    def claim(self, limit: int) -> FrozenTrial | None:
        """Claim the lowest waiting trial, or a new one, for this process; it is running then.

        Args:
            limit: only numbers below it are claimed.

        Returns:
            The trial; None when all `limit` trials are claimed already.
        """

        def claim() -> FrozenTrial | None:
            with self._transaction() as connection:
                rows = self._open_rows(connection)  # a finished trial never waits again
                waiting = [row for row in rows if row.state == TrialState.WAITING and row.number < limit]
                if waiting:
                    row = trial_rows.put_running(connection, min(waiting, key=lambda row: row.number))
                else:
                    # Finished trials are in `_seen` and not in `rows`: the next number is above those of both.
                    number = max([row.number for row in rows] + [len(self._seen) - 1]) + 1
                    if number >= limit:
                        return None
                    row = trial_rows.add_running(connection, self.study_id, number)
                self._own(connection, row.trial_id)
                return trial_rows.read_trials(connection, [row])[0]

        trial = self._try(claim)
        if trial is not None:
            self._hold(trial)
        return trial

    def orphans(self) -> list[FrozenTrial]:
        """Running trials whose owner is dead."""

        def read() -> tuple[list[FrozenTrial], set[int]]:
            running = self.storage.get_all_trials(self.study_id, deepcopy=False, states=(TrialState.RUNNING,))
            return running, set(self.storage._get_stale_trial_ids(self.study_id)) if running else set()

        running, stale = self._read(read)
        return [
            trial
            for trial in running
            if owners.is_dead(trial.user_attrs.get("owner"), self._owner, is_silent=trial._trial_id in stale)
        ]

    def owns(self, trial: FrozenTrial) -> bool:
        """Whether this store has claimed a trial or taken it over."""
        return trial.user_attrs.get("owner") == self._owner

    def take_over(self, trial: FrozenTrial) -> bool:
        """Become the owner of an orphan; False when another process was faster, or the trial has ended."""

        def take() -> FrozenTrial | None:
            with self._transaction() as connection:
                state = trial_rows.lock_state(connection, trial._trial_id)
                owner = trial_rows.owner_of(connection, trial._trial_id)
                if state != TrialState.RUNNING or owner != trial.user_attrs.get("owner"):
                    return None
                self._own(connection, trial._trial_id)
                return trial_rows.read_trials(connection, trial_rows.rows_of(connection, [trial._trial_id]))[0]

        taken = self._try(take)
        if taken is not None:
            self._hold(taken)
        return taken is not None

    def set_params(
        self,
        trial_id: int,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attrs: Mapping[str, Any] | None = None,
    ) -> bool:
        """Write a trial's parameters (as in `FrozenTrial.params`) and user attributes, all or none.

        Parameters that it has stay.
        """

        def write(connection: sqlalchemy.Connection) -> None:
            trial_rows.put_params(connection, trial_id, params, distributions)
            trial_rows.put_attrs(connection, trial_id, attrs or {})

        return self._write(trial_id, write)

    def set_user_attrs(self, trial_id: int, attrs: Mapping[str, Any]) -> bool:
        """Set user attributes (JSON), all or none."""
        return self._write(trial_id, lambda connection: trial_rows.put_attrs(connection, trial_id, attrs))

    def report(self, trial_id: int, step: int, value: float) -> bool:
        """Set the intermediate value of a step."""
        return self._write(trial_id, lambda connection: trial_rows.put_step(connection, trial_id, step, value))

    def tell(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None, attrs: Mapping[str, Any] | None = None
    ) -> bool:
        """Finish a trial, with its last user attributes; True if it was this call that did."""
        assert state.is_finished() and not any(math.isnan(value) for value in values or ())

        def write(connection: sqlalchemy.Connection) -> None:
            trial_rows.put_attrs(connection, trial_id, attrs or {})
            trial_rows.put_end(connection, trial_id, state, values or ())

        self._held.discard(trial_id)
        return self._write(trial_id, write)

    def _own(self, connection: sqlalchemy.Connection, trial_id: int) -> None:
        """Write down this store as the owner, and a first heartbeat."""
        trial_rows.put_attrs(connection, trial_id, {"owner": self._owner})
        trial_rows.put_beat(connection, trial_id)

    def _hold(self, trial: FrozenTrial) -> None:
        """Keep a trial's heart beating from now on."""
        self._held.add(trial._trial_id)
        if self._heart is None:
            self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._heart.start()
        if trial.number <= len(self._seen):
            self._see(trial)

    def _beat(self) -> None:
        while not self._closing.wait(self.storage.heartbeat_interval):
            for trial_id in [*self._held]:
                try:
                    self.storage.record_heartbeat(trial_id)
                except (StorageInternalError, SQLAlchemyError):
                    break  # the next beat may get through; after the grace period others take over
        self.storage.remove_session()

    def _write(self, trial_id: int, write: Callable[[sqlalchemy.Connection], None]) -> bool:
        """Write to a trial in one transaction that has its row for itself; False if the trial has ended."""

        def attempt() -> bool:
            with self.storage.engine.begin() as connection:
                if trial_rows.lock_state(connection, trial_id).is_finished():
                    return False
                write(connection)
                return True

        return self._try(attempt)

    @contextmanager
    def _transaction(self) -> Iterator[sqlalchemy.Connection]:
        """One transaction that has this study's numbers and claims for itself."""
        with self.storage.engine.begin() as connection:
            trial_rows.lock_study(connection, self.study_id)
            yield connection

    def _read(self, read: Callable[[], T]) -> T:
        """As `_try`, for an action that only reads: it waits for no writer (`_begin_sqlite`)."""
        self._reading.now = True
        try:
            return self._try(read)
        finally:
            self._reading.now = False

    def _try(self, action: Callable[[], T]) -> T:
        return retry(action, self.shown_url)
