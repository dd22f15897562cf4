"""Whether a chosen setting lies at the end of the range that was searched, so that a better one may lie outside."""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.config.sweep import CategoricalParameter, FloatParameter, IntParameter, Parameter, ZeroOrLogParameter
from harness.records.search import Value

NEAR = 0.05  # of the range, on the scale that it is drawn on: a random search ends there by chance in one case of ten
MIN_CHOICES = 3  # of two numbers each is an end


def edge_remarks(space: Mapping[str, Parameter], params: Mapping[str, Value]) -> list[str]:
    """A line for each chosen setting that lies at an end of its range.

    A bound of zero is no end, since rates, strengths and probabilities have nothing beyond it; nor is the lower bound
    beside which zero itself was drawn.
    """
    found = ((key, parameter, _end(parameter, params[key])) for key, parameter in space.items() if key in params)
    return [
        f"{key} is at the {end} end of its search ({_range(parameter)}); better values may lie beyond"
        for key, parameter, end in found
        if end is not None
    ]


def _end(parameter: Parameter, value: Value) -> str | None:
    if isinstance(parameter, CategoricalParameter):
        numbers = _numbers(parameter)
        if len(numbers) < MIN_CHOICES or value not in (numbers[0], numbers[-1]) or isinstance(value, bool):
            return None
        return None if value == 0 else "upper" if value == numbers[-1] else "lower"
    assert isinstance(value, (int, float))
    is_log = parameter.log if isinstance(parameter, IntParameter) else not isinstance(parameter, FloatParameter)
    if is_log and value <= 0:
        return None
    low, high, at = ((math.log(x) if is_log else float(x)) for x in (parameter.low, parameter.high, value))
    if high - at <= NEAR * (high - low):
        return None if parameter.high == 0 else "upper"
    has_end = parameter.low != 0 and not isinstance(parameter, ZeroOrLogParameter)
    return "lower" if has_end and at - low <= NEAR * (high - low) else None


def _numbers(parameter: CategoricalParameter) -> list[float]:
    """The choices in order, if all are numbers."""
    numbers = [x for x in parameter.choices if isinstance(x, (int, float)) and not isinstance(x, bool)]
    return sorted(numbers) if len(numbers) == len(parameter.choices) else []


def _range(parameter: Parameter) -> str:
    if isinstance(parameter, CategoricalParameter):
        low, *_, high = _numbers(parameter)
        return f"{low:g} to {high:g}"
    return f"{parameter.low:g} to {parameter.high:g}"
