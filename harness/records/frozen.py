"""How a sweep's winners were chosen, `results/SWEEP/frozen.json`, as its readers rely on it. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from harness.disk.network import exists_now
from harness.errors import UserError
from harness.records.files import first_problem, read_json
from harness.records.search import Value

FROZEN = "frozen.json"


class _Named(BaseModel):
    name: str


class _Parameter(BaseModel):
    type: str


class _Objective(BaseModel):
    metric: str
    direction: str | None = None


class _Seeds(BaseModel):
    seeds: list[int]


class _Race(_Seeds):
    candidates: int


class _Confirm(_Seeds):
    rules: list[str]
    regularisation: list[str] | None = None


class _Raced(BaseModel):
    trial: int
    params: dict[str, Value]


class _Winner(_Raced):
    validation: dict[str, float]
    standard_error: float | None


class _Arm(BaseModel):
    trials: dict[str, int]
    winners: dict[str, _Winner]
    raced: list[_Raced]


class _Frozen(BaseModel):
    fingerprint: str
    objectives: list[_Objective]
    constraints: list[dict[str, Any]]
    space: dict[str, _Parameter]
    sampler: _Named
    pruner: _Named
    budget: dict[str, float | None]
    search: _Seeds
    race: _Race
    confirm: _Confirm
    arms: dict[str, _Arm]


def read_frozen(folder: Path) -> dict[str, Any] | None:
    """The content of a sweep's frozen.json, whose parts are there and of their kinds; None where there is no such file.

    Raises:
        UserError: the file is corrupt.
    """
    path = folder / FROZEN
    if not exists_now(path):
        return None
    content = read_json(path)
    try:
        _Frozen.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}") from error
    return dict(content)
