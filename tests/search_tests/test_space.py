"""Parameters, distributions and settings: bounds, zeros, rounding."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.study import create_study

from harness.config.sweep import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    LogFloatParameter,
    Parameter,
    ZeroOrLogParameter,
)
from harness.errors import UserError
from harness.records.search import Axis
from harness.search.space import axis_of, distribution, extremes, grid_values, inner, position, setting

ZERO_OR_LOG = ZeroOrLogParameter(type="zero_or_log", low=1e-6, high=1e-2, zero_share=0.3, grid=(0.0, 1e-4))
PARAMETERS: list[Parameter] = [
    FloatParameter(type="float", low=0.0, high=0.9),
    LogFloatParameter(type="log_float", low=1e-4, high=1e-2),
    IntParameter(type="int", low=8, high=64, step=8),
    IntParameter(type="int", low=1, high=64, log=True),
    ZERO_OR_LOG,
    CategoricalParameter(type="categorical", choices=("relu", "swish", None)),
]


def draws(parameter: Parameter, num: int = 400) -> list[object]:
    """Settings that a random search draws."""
    study = create_study(sampler=RandomSampler(seed=0))
    return [setting(parameter, study.ask({"x": distribution(parameter)}).params["x"]) for _ in range(num)]


def test_distributions() -> None:
    assert distribution(PARAMETERS[0]) == FloatDistribution(0.0, 0.9)
    assert distribution(PARAMETERS[1]) == FloatDistribution(1e-4, 1e-2, log=True)
    assert distribution(PARAMETERS[2]) == IntDistribution(8, 64, step=8)
    assert distribution(ZERO_OR_LOG) == FloatDistribution(0.0, 1.0)
    assert distribution(ZERO_OR_LOG, grid=True) == CategoricalDistribution((0.0, 1e-4))


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda p: p.type)
def test_draws_stay_inside(parameter: Parameter) -> None:
    for value in draws(parameter, 200):
        if isinstance(parameter, CategoricalParameter):
            assert value in parameter.choices
        else:
            assert isinstance(value, (int, float))
            assert parameter.low <= value <= parameter.high or (value == 0 and parameter.type == "zero_or_log")
            assert float(f"{value:.6g}") == value  # reads as it was trained


def test_zero_or_log_is_zero_as_often_as_it_says_and_else_log_uniform() -> None:
    values = np.array(draws(ZERO_OR_LOG, 2000), dtype=float)
    zeros = values == 0.0
    assert zeros.mean() == pytest.approx(0.3, abs=0.04)
    powers = np.log10(values[~zeros])
    assert powers.mean() == pytest.approx(-4, abs=0.1)
    assert np.histogram(powers, bins=4, range=(-6, -2))[0].std() < 0.1 * len(powers)


@pytest.mark.parametrize(("drawn", "value"), [(0.0, 0.0), (0.299, 0.0), (0.3, 1e-6), (0.65, 1e-4), (1.0, 1e-2)])
def test_ends_of_zero_or_log(drawn: float, value: float) -> None:
    assert setting(ZERO_OR_LOG, drawn) == pytest.approx(value, rel=1e-9)


def test_extremes_have_the_zero_and_the_grid() -> None:
    assert set(extremes(ZERO_OR_LOG)) == {0.0, 1e-6, 1e-2, 1e-4}
    assert extremes(PARAMETERS[-1]) == ("relu", "swish", None)


def test_position_grows_with_strength() -> None:
    axis = axis_of("a.l2_lambda", ZERO_OR_LOG)
    places = [position(axis, value) for value in (0.0, 1e-6, 1e-4, 1e-2)]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0.0, 1.0)
    assert places[1] > 0.0  # the weakest lambda is stronger than none
    with pytest.raises(UserError, match="categorical"):
        position(Axis(key="a", kind="categorical", choices=("x", "y")), "x")


@pytest.mark.parametrize("parameter", PARAMETERS[:5], ids=lambda p: p.type)
def test_position_is_monotone_from_0_to_1_over_the_whole_axis(parameter: Parameter) -> None:
    assert not isinstance(parameter, CategoricalParameter)
    axis = axis_of("x", parameter)
    values = sorted({value for value in draws(parameter) if isinstance(value, (int, float))})
    places = [position(axis, value) for value in values]
    assert places == sorted(set(places))
    assert position(axis, parameter.low) == (0.1 if parameter.type == "zero_or_log" else 0.0)
    assert position(axis, parameter.high) == pytest.approx(1.0)


def test_a_logarithmic_position_halves_at_the_geometric_mean() -> None:
    assert position(axis_of("lr", PARAMETERS[1]), 1e-3) == pytest.approx(0.5)
    assert position(axis_of("dim", PARAMETERS[3]), 8) == pytest.approx(0.5)
    assert position(axis_of("p", PARAMETERS[0]), 0.45) == pytest.approx(0.5)


def test_rounding_never_leaves_the_range() -> None:
    low, high = 1.2345641e-4, 9.8765461e-3  # rounded to six digits, both lie outside
    parameter = LogFloatParameter(type="log_float", low=low, high=high)
    assert (setting(parameter, low), setting(parameter, high)) == (low, high)
    assert setting(parameter, 1.23456789e-3) == 1.23457e-3
    zero = ZeroOrLogParameter(type="zero_or_log", low=low, high=high)
    lowest, highest = setting(zero, 0.2), setting(zero, 1.0)
    assert isinstance(lowest, float) and isinstance(highest, float)
    assert lowest == low
    assert low <= lowest < highest <= high


def test_a_grid_value_is_trained_as_it_is_written() -> None:
    parameter = LogFloatParameter(type="log_float", low=1e-4, high=1.0, grid=(0.123456789, 1.0))
    assert grid_values(parameter) == (0.123456789, 1.0)
    assert [setting(parameter, value, grid=True) for value in grid_values(parameter)] == [0.123456789, 1.0]
    assert grid_values(PARAMETERS[0]) == ()
    assert grid_values(PARAMETERS[-1]) == ("relu", "swish", None)


def test_the_inner_value_is_inside_and_no_integer() -> None:
    ranges = [(2.0, 7.0), (1.0, 1024.0)]
    for low, high in ranges:
        for parameter in (
            FloatParameter(type="float", low=low, high=high),
            LogFloatParameter(type="log_float", low=low, high=high),
            ZeroOrLogParameter(type="zero_or_log", low=low, high=high),
        ):
            value = inner(parameter)
            assert isinstance(value, float) and low < value < high and not value.is_integer()
    assert [inner(parameter) for parameter in (PARAMETERS[2], PARAMETERS[-1])] == [None, None]
