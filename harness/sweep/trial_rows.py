"""Writing a trial's rows in Optuna's tables, by plain statements.

Optuna's own methods load each object that they write, one transaction a value: several milliseconds, many times a
trial. Whoever calls these has the trial's (or the study's) row for himself, in a transaction of his own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import Connection

_TRIALS: Any = models.TrialModel.__table__
_PARAMS: Any = models.TrialParamModel.__table__
_ATTRS: Any = models.TrialUserAttributeModel.__table__
_STEPS: Any = models.TrialIntermediateValueModel.__table__
_VALUES: Any = models.TrialValueModel.__table__
_OF_TRIAL: Any = sqlalchemy.bindparam("trial_id")
_STATE = sqlalchemy.select(_TRIALS.c.state).where(_TRIALS.c.trial_id == _OF_TRIAL).with_for_update()
_PARAM_NAMES = sqlalchemy.select(_PARAMS.c.param_name).where(_PARAMS.c.trial_id == _OF_TRIAL)
_LAST_NUMBER = (
    sqlalchemy.select(_TRIALS.c.number)
    .where(_TRIALS.c.study_id == sqlalchemy.bindparam("study_id"))
    .order_by(_TRIALS.c.trial_id.desc())
    .limit(1)
)


def next_number(connection: Connection, study_id: int) -> int:
    """The number of a study's next new trial, without counting: that would read the whole study."""
    last = connection.execute(_LAST_NUMBER, {"study_id": study_id}).scalar()
    return 0 if last is None else int(last) + 1


def lock_state(connection: Connection, trial_id: int) -> TrialState:
    """Take a trial's row until the transaction ends; its state."""
    state: TrialState = connection.execute(_STATE, {"trial_id": trial_id}).scalar_one()
    return state


def put_params(
    connection: Connection, trial_id: int, params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
) -> None:
    """Write parameters; those that the trial has stay."""
    known = set(connection.execute(_PARAM_NAMES, {"trial_id": trial_id}).scalars())
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
        connection.execute(_PARAMS.insert(), rows)


def put_attrs(connection: Connection, trial_id: int, attrs: Mapping[str, Any]) -> None:
    """Write user attributes (JSON)."""
    for key, value in attrs.items():
        _put(connection, _ATTRS, {"trial_id": trial_id, "key": key}, {"value_json": json.dumps(value)})


def put_step(connection: Connection, trial_id: int, step: int, value: float) -> None:
    """Write the intermediate value of a step."""
    number, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    stored = {"intermediate_value": number, "intermediate_value_type": kind}
    _put(connection, _STEPS, {"trial_id": trial_id, "step": step}, stored)


def put_end(connection: Connection, trial_id: int, state: TrialState, values: Sequence[float]) -> None:
    """Write how a trial ended."""
    for objective, value in enumerate(values):
        number, kind = models.TrialValueModel.value_to_stored_repr(value)
        key = {"trial_id": trial_id, "objective": objective}
        _put(connection, _VALUES, key, {"value": number, "value_type": kind})
    ended = {"state": state, "datetime_complete": datetime.now()}
    connection.execute(_TRIALS.update().where(_TRIALS.c.trial_id == trial_id).values(ended))


def _put(connection: Connection, table: Any, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Update the row of a key, or insert it."""
    mine = [table.c[name] == value for name, value in key.items()]
    if connection.execute(table.update().where(*mine).values(values)).rowcount == 0:
        connection.execute(table.insert().values({**key, **values}))
