"""The search space: from a parameter of the sweep file to Optuna's distribution, and from a draw to a setting.

A `zero_or_log` parameter is one dimension in [0, 1] for Optuna, whose lower part means 0. Values are rounded to six
significant digits, so that a frozen hyperparameter reads as it was trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from harness.config.sweep import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    LogFloatParameter,
    Parameter,
    ZeroOrLogParameter,
)
from harness.errors import UserError
from harness.records.search import Axis, Value

DIGITS = 6  # significant digits of a drawn float


def distribution(parameter: Parameter, grid: bool = False) -> BaseDistribution:
    """Optuna's distribution of a parameter; for a grid, the choice among its grid values."""
    if grid:
        return CategoricalDistribution(grid_values(parameter))
    match parameter:
        case FloatParameter(low=low, high=high):
            return FloatDistribution(low, high)
        case LogFloatParameter(low=low, high=high):
            return FloatDistribution(low, high, log=True)
        case IntParameter(low=low, high=high, step=step, log=log):
            return IntDistribution(low, high, step=step, log=log)
        case ZeroOrLogParameter():
            return FloatDistribution(0.0, 1.0)
        case CategoricalParameter(choices=choices):
            return CategoricalDistribution(choices)


def grid_values(parameter: Parameter) -> tuple[Value, ...]:
    """The values that the grid sampler goes through; () when the parameter names none."""
    if isinstance(parameter, CategoricalParameter):
        return parameter.choices
    return parameter.grid or ()


def setting(parameter: Parameter, drawn: Any, grid: bool = False) -> Value:
    """The value that a trial trains with, from what Optuna drew."""
    if grid or isinstance(parameter, (CategoricalParameter, IntParameter)):
        value: Value = drawn
        return value
    if not isinstance(parameter, ZeroOrLogParameter):
        return min(max(rounded(drawn), parameter.low), parameter.high)
    if drawn < parameter.zero_share:
        return 0.0
    position = (drawn - parameter.zero_share) / (1 - parameter.zero_share)
    value = rounded(parameter.low * (parameter.high / parameter.low) ** position)
    return min(max(value, parameter.low), parameter.high)


def rounded(value: float) -> float:
    """A float to `DIGITS` significant digits."""
    return float(f"{value:.{DIGITS}g}")


def extremes(parameter: Parameter) -> tuple[Value, ...]:
    """Values that a trial's validation must accept if it accepts the whole range: its ends, or all choices."""
    if isinstance(parameter, CategoricalParameter):
        return parameter.choices
    ends: tuple[Value, ...] = (parameter.low, parameter.high, *(parameter.grid or ()))
    return (0.0, *ends) if isinstance(parameter, ZeroOrLogParameter) else ends


def inner(parameter: Parameter) -> Value | None:
    """A value inside the range that is no round number: a setting that takes integers only refuses it."""
    if isinstance(parameter, (CategoricalParameter, IntParameter)):
        return None
    share = (math.sqrt(5) - 1) / 2  # irrational, so that no range with round ends gives a round number
    if isinstance(parameter, FloatParameter):
        return setting(parameter, parameter.low + share * (parameter.high - parameter.low))
    return setting(
        FloatParameter(type="float", low=parameter.low, high=parameter.high),
        parameter.low * (parameter.high / parameter.low) ** share,
    )


def axis_of(key: str, parameter: Parameter) -> Axis:
    """The parameter as figures and rules see it."""
    match parameter:
        case CategoricalParameter(choices=choices):
            return Axis(key=key, kind="categorical", choices=choices)
        case ZeroOrLogParameter(low=low, high=high):
            return Axis(key=key, kind="zero_or_log", low=low, high=high)
        case LogFloatParameter(low=low, high=high):
            return Axis(key=key, kind="log", low=low, high=high)
        case IntParameter(low=low, high=high, log=log):
            return Axis(key=key, kind="log" if log else "linear", low=low, high=high)
        case FloatParameter(low=low, high=high):
            return Axis(key=key, kind="linear", low=low, high=high)


def position(axis: Axis, value: Value) -> float:
    """Where a value lies on a numeric axis: 0 at the weak end, 1 at the strong one (a zero of `zero_or_log` is 0).

    Raises:
        UserError: the axis is categorical, so it has no order.
    """
    if axis.kind == "categorical" or axis.low is None or axis.high is None or not isinstance(value, (int, float)):
        raise UserError(f"{axis.key}: a categorical setting has no order, so it cannot count as regularisation")
    if axis.kind == "linear":
        return (value - axis.low) / (axis.high - axis.low)
    if value == 0:
        return 0.0
    share = math.log(value / axis.low) / math.log(axis.high / axis.low)
    return 0.1 + 0.9 * share if axis.kind == "zero_or_log" else share  # the weakest lambda is stronger than none


def distributions(space: Mapping[str, Parameter], grid: bool) -> dict[str, BaseDistribution]:
    """The distributions of an arm's space, by key."""
    return {key: distribution(parameter, grid) for key, parameter in space.items()}
