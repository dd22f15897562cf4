"""A trial's rows in Optuna's tables, read and written by plain statements.

Optuna's own methods load each object that they write, one transaction a value, and read a study by its whole length:
several milliseconds, many times a trial. The statements here are made once, name rows by their keys, and so cost the
same in a long study. Every write is a transaction that has locked the trial's (or the study's) row.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection
from sqlalchemy.dialects import mysql, postgresql, sqlite

CHUNK = 500  # ids in one statement, fewer than any database refuses

_STUDIES: Any = models.StudyModel.__table__
_TRIALS: Any = models.TrialModel.__table__
_PARAMS: Any = models.TrialParamModel.__table__
_ATTRS: Any = models.TrialUserAttributeModel.__table__
_SYSTEM_ATTRS: Any = models.TrialSystemAttributeModel.__table__
_STEPS: Any = models.TrialIntermediateValueModel.__table__
_VALUES: Any = models.TrialValueModel.__table__
_BEATS: Any = models.TrialHeartbeatModel.__table__
_VALUE, _STEP = models.TrialValueModel, models.TrialIntermediateValueModel

_OF_STUDY: Any = sqlalchemy.bindparam("of_study")
_OF_TRIAL: Any = sqlalchemy.bindparam("of_trial")
_OF_TRIALS: Any = sqlalchemy.bindparam("of_trials", expanding=True)
_STUDY = sqlalchemy.select(_STUDIES.c.study_id).where(_STUDIES.c.study_id == _OF_STUDY).with_for_update()
_STATE = sqlalchemy.select(_TRIALS.c.state).where(_TRIALS.c.trial_id == _OF_TRIAL).with_for_update()
_OWNER = sqlalchemy.select(_ATTRS.c.value_json).where(_ATTRS.c.trial_id == _OF_TRIAL, _ATTRS.c.key == "owner")
_PARAM_NAMES = sqlalchemy.select(_PARAMS.c.param_name).where(_PARAMS.c.trial_id == _OF_TRIAL)
_ROW = sqlalchemy.select(
    _TRIALS.c.trial_id, _TRIALS.c.number, _TRIALS.c.state, _TRIALS.c.datetime_start, _TRIALS.c.datetime_complete
).order_by(_TRIALS.c.trial_id)
_ROWS_BY_ID = _ROW.where(_TRIALS.c.trial_id.in_(_OF_TRIALS))
_ROWS_AFTER = _ROW.where(_TRIALS.c.study_id == _OF_STUDY, _TRIALS.c.trial_id > sqlalchemy.bindparam("newest"))
_ADD_TRIAL = _TRIALS.insert()
_SET_STATE = _TRIALS.update().where(_TRIALS.c.trial_id == _OF_TRIAL).values(state=sqlalchemy.bindparam("to_state"))
_START = _SET_STATE.values(datetime_start=sqlalchemy.bindparam("at"))
_END = _SET_STATE.values(datetime_complete=sqlalchemy.bindparam("at"))
_ADD_PARAM = _PARAMS.insert()
_DROP_BEAT = _BEATS.delete().where(_BEATS.c.trial_id == _OF_TRIAL)
_ADD_BEAT = _BEATS.insert().values(trial_id=_OF_TRIAL, heartbeat=sqlalchemy.func.now())


def _children(table: Any, *names: str) -> Any:
    """Rows of several trials in the order in which they were written."""
    columns = [table.c[name] for name in names]
    (key,) = table.primary_key
    return sqlalchemy.select(table.c.trial_id, *columns).where(table.c.trial_id.in_(_OF_TRIALS)).order_by(key)


_GET_PARAMS = _children(_PARAMS, "param_name", "param_value", "distribution_json")
_GET_ATTRS = _children(_ATTRS, "key", "value_json")
_GET_SYSTEM_ATTRS = _children(_SYSTEM_ATTRS, "key", "value_json")
_GET_STEPS = _children(_STEPS, "step", "intermediate_value", "intermediate_value_type")
_GET_VALUES = _children(_VALUES, "objective", "value", "value_type")


@dataclass(frozen=True)
class Row:
    """A trial's own row. Times are UTC, as stored."""

    trial_id: int
    number: int
    state: TrialState
    started: datetime | None = None
    ended: datetime | None = None


def rows_of(connection: Connection, trial_ids: Collection[int]) -> list[Row]:
    """The rows of some trials, by id."""
    return [
        Row(*found)
        for chunk in _chunks(sorted(trial_ids))
        for found in connection.execute(_ROWS_BY_ID, {"of_trials": chunk})
    ]


def rows_after(connection: Connection, study_id: int, newest: int) -> list[Row]:
    """The rows of a study's trials with an id above `newest`, by id."""
    return [Row(*found) for found in connection.execute(_ROWS_AFTER, {"of_study": study_id, "newest": newest})]


def read_trials(connection: Connection, rows: Sequence[Row]) -> list[FrozenTrial]:
    """The trials of some rows, with everything that is stored of them."""
    return [trial for chunk in _chunks(rows) for trial in _read_chunk(connection, chunk)]


def _read_chunk(connection: Connection, rows: Sequence[Row]) -> Iterable[FrozenTrial]:
    ids = {"of_trials": [row.trial_id for row in rows]}
    distributions: dict[int, dict[str, BaseDistribution]] = defaultdict(dict)
    params: dict[int, dict[str, Any]] = defaultdict(dict)
    for trial_id, name, number, text in connection.execute(_GET_PARAMS, ids):
        distributions[trial_id][name] = distribution = _distribution(text)
        params[trial_id][name] = distribution.to_external_repr(number)
    attrs: dict[int, dict[str, Any]] = defaultdict(dict)
    for trial_id, key, text in connection.execute(_GET_ATTRS, ids):
        attrs[trial_id][key] = json.loads(text)
    system_attrs: dict[int, dict[str, Any]] = defaultdict(dict)
    for trial_id, key, text in connection.execute(_GET_SYSTEM_ATTRS, ids):
        system_attrs[trial_id][key] = json.loads(text)
    steps: dict[int, dict[int, float]] = defaultdict(dict)
    for trial_id, step, number, kind in connection.execute(_GET_STEPS, ids):
        steps[trial_id][step] = _STEP.stored_repr_to_intermediate_value(number, kind)
    values: dict[int, dict[int, float]] = defaultdict(dict)
    for trial_id, objective, number, kind in connection.execute(_GET_VALUES, ids):
        values[trial_id][objective] = _VALUE.stored_repr_to_value(number, kind)
    for row in rows:
        of_trial = values[row.trial_id]
        yield FrozenTrial(
            number=row.number,
            state=row.state,
            value=None,
            values=[of_trial[objective] for objective in sorted(of_trial)] or None,
            datetime_start=_local(row.started),
            datetime_complete=_local(row.ended),
            params=params[row.trial_id],
            distributions=distributions[row.trial_id],
            user_attrs=attrs[row.trial_id],
            system_attrs=system_attrs[row.trial_id],
            intermediate_values=steps[row.trial_id],
            trial_id=row.trial_id,
        )


def _chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


@lru_cache(maxsize=1024)
def _distribution(text: str) -> BaseDistribution:
    """A stored distribution; the trials of a study share a handful, and nobody changes them."""
    distribution: BaseDistribution = json_to_distribution(text)
    return distribution


def _local(moment: datetime | None) -> datetime | None:
    """A stored time as Optuna shows it."""
    return None if moment is None else moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def _now() -> datetime:
    """Now as Optuna stores it: in UTC, without saying so."""
    return datetime.now(UTC).replace(tzinfo=None)


def lock_study(connection: Connection, study_id: int) -> None:
    """Take a study's row until the transaction ends: its numbers and claims."""
    connection.execute(_STUDY, {"of_study": study_id}).scalar_one()


def lock_state(connection: Connection, trial_id: int) -> TrialState:
    """Take a trial's row until the transaction ends; its state."""
    state: TrialState = connection.execute(_STATE, {"of_trial": trial_id}).scalar_one()
    return state


def owner_of(connection: Connection, trial_id: int) -> Any:
    """Who has claimed a trial; None when nobody has said so."""
    text = connection.execute(_OWNER, {"of_trial": trial_id}).scalar()
    return None if text is None else json.loads(text)


def add_running(connection: Connection, study_id: int, number: int) -> Row:
    """Write a new trial, running from now on."""
    state, now = TrialState.RUNNING, _now()
    row = {"study_id": study_id, "number": number, "state": state, "datetime_start": now}
    key = connection.execute(_ADD_TRIAL, row).inserted_primary_key
    assert key is not None
    return Row(int(key[0]), number, state, now)


def put_running(connection: Connection, row: Row) -> Row:
    """Let a waiting trial run from now on."""
    state, now = TrialState.RUNNING, _now()
    connection.execute(_START, {"of_trial": row.trial_id, "to_state": state, "at": now})
    return Row(row.trial_id, row.number, state, now)


def put_beat(connection: Connection, trial_id: int) -> None:
    """Write a first heartbeat, of now."""
    connection.execute(_DROP_BEAT, {"of_trial": trial_id})
    connection.execute(_ADD_BEAT, {"of_trial": trial_id})


def put_params(
    connection: Connection, trial_id: int, params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
) -> None:
    """Write parameters; those that the trial has stay."""
    known = set(connection.execute(_PARAM_NAMES, {"of_trial": trial_id}).scalars())
    rows = [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": distributions[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(distributions[name]),
        }
        for name, value in params.items()
        if name not in known
    ]
    if rows:
        connection.execute(_ADD_PARAM, rows)


def put_attrs(connection: Connection, trial_id: int, attrs: Mapping[str, Any]) -> None:
    """Write user attributes (JSON)."""
    rows = [{"trial_id": trial_id, "key": key, "value_json": json.dumps(value)} for key, value in attrs.items()]
    _put(connection, "attrs", rows)


def put_step(connection: Connection, trial_id: int, step: int, value: float) -> None:
    """Write the intermediate value of a step."""
    number, kind = _STEP.intermediate_value_to_stored_repr(value)
    row = {"trial_id": trial_id, "step": step, "intermediate_value": number, "intermediate_value_type": kind}
    _put(connection, "steps", [row])


def put_end(connection: Connection, trial_id: int, state: TrialState, values: Sequence[float]) -> None:
    """Write how a trial ended."""
    rows = []
    for objective, value in enumerate(values):
        number, kind = _VALUE.value_to_stored_repr(value)
        rows.append({"trial_id": trial_id, "objective": objective, "value": number, "value_type": kind})
    _put(connection, "values", rows)
    connection.execute(_END, {"of_trial": trial_id, "to_state": state, "at": _now()})


def _put(connection: Connection, kind: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; one whose key is there is overwritten."""
    if rows:
        connection.execute(_upsert(connection.dialect.name, kind), rows)


@cache
def _upsert(dialect: str, kind: str) -> Any:
    """The statement of `_put`, which each database spells in its own way."""
    table, key = {"attrs": (_ATTRS, "key"), "steps": (_STEPS, "step"), "values": (_VALUES, "objective")}[kind]
    changed = [c.name for c in table.columns if c.name not in ("trial_id", key) and not c.primary_key]
    if dialect in ("mysql", "mariadb"):
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update({name: insert.inserted[name] for name in changed})
    to: Any = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    return to.on_conflict_do_update(
        index_elements=["trial_id", key], set_={name: to.excluded[name] for name in changed}
    )
