"""The settings of a sweep by themselves: seeds, bounds, constraints, what counts as regularisation."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from sweeps_by_hand import L2, LAMBDA, LR, changed

from harness.config.sweep import ConstraintSettings, Parameter, SweepConfig, regularisation_keys

PARAMETER: TypeAdapter[Any] = TypeAdapter(Parameter)


def sweep(**changes: Any) -> SweepConfig:
    return SweepConfig.model_validate(changed(changes))


def test_defaults() -> None:
    config = sweep()
    assert (config.sampler.name, config.search.lag, config.search.seed) == ("tpe", 4, 0)
    assert (config.race.seeds, config.confirm.rules, config.storage, config.arms) == ((), ("best",), None, None)


@pytest.mark.parametrize(
    "parameter",
    [
        {"type": "float", "low": -1, "high": 1, "grid": [-1, 0, 1]},
        {"type": "log_float", "low": 1e-5, "high": 1},
        {"type": "int", "low": 2, "high": 8, "step": 3, "grid": [2, 5, 8]},
        {"type": "int", "low": 1, "high": 64, "log": True},
        {"type": "zero_or_log", "low": 1e-6, "high": 1, "grid": [0, 1e-6, 1]},
        {"type": "categorical", "choices": [None, True, 0, "x"]},
    ],
)
def test_right_parameters(parameter: dict[str, Any]) -> None:
    assert PARAMETER.validate_python(parameter).type == parameter["type"]


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ({"type": "float", "low": 1, "high": 1}, "low 1 must be below high 1"),
        ({"type": "float", "low": 0, "high": float("inf")}, "finite"),
        ({"type": "float", "low": True, "high": 2}, "expected a number, got True"),
        ({"type": "log_float", "low": 0, "high": 1}, "greater than 0"),
        ({"type": "log_float", "low": 1e-3, "high": 1, "grid": [1e-4]}, "grid: 0.0001 lies outside"),
        ({"type": "int", "low": 0.5, "high": 2}, "integer"),
        ({"type": "int", "low": 0, "high": 8, "log": True}, "low of at least 1"),
        ({"type": "int", "low": 0, "high": 8, "step": 3}, "step 3 does not lead"),
        ({"type": "int", "low": 0, "high": 8, "step": 2, "grid": [3]}, "grid: 3 .* low 0 in steps of 2"),
        ({"type": "zero_or_log", "low": 1e-3, "high": 1, "zero_share": 0}, "greater than 0"),
        ({"type": "zero_or_log", "low": 1e-3, "high": 1, "grid": [1e-4]}, "grid: 0.0001 lies outside"),
        ({"type": "categorical", "choices": [1]}, "at least 2 items"),
        ({"type": "categorical", "choices": [1, True]}, "names a value twice"),  # one value for Optuna
        ({"type": "categorical", "choices": ["a", "a"]}, "names a value twice"),
    ],
)
def test_wrong_parameters(parameter: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PARAMETER.validate_python(parameter)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"confirm": {"seeds": [1000]}}, "confirm.seeds: seed 1000 is also in search.seeds"),
        ({"race": {"seeds": [0]}}, "confirm.seeds: seed 0 is also in race.seeds"),
        ({"search": {"seeds": [7, 7]}}, "search.seeds: seed 7 is given twice"),
    ],
)
def test_a_seed_has_one_purpose(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        sweep(**changes)


@pytest.mark.parametrize(
    ("bound", "value", "violation"),
    [
        ({"at_most": 0.03}, 0.05, 0.02),
        ({"at_most": 0.03}, 0.03, 0.0),
        ({"at_most": 0.0}, -0.1, -0.1),
        ({"at_least": 0.5}, 0.4, 0.1),
        ({"at_least": 0.0}, 0.2, -0.2),
    ],
)
def test_violation_is_what_is_missing(bound: dict[str, float], value: float, violation: float) -> None:
    constraint = ConstraintSettings.model_validate({"metric": "m", **bound})
    assert constraint.violation({"m": value}) == pytest.approx(violation)


def test_regularisation() -> None:
    choice = {"type": "categorical", "choices": [0.0, 0.1]}
    space = {"optim.lr": LR, L2: LAMBDA, "optim.weight_decay": choice}
    assert regularisation_keys(sweep(space=space)) == (L2,)
    named = sweep(space=space, confirm={"regularisation": ["optim.lr"]})
    assert regularisation_keys(named) == ("optim.lr",)
