"""Search results made by formula, whose truth is known."""

from __future__ import annotations

import random

from harness.records.search import Axis, Objective, SearchPoint, SearchResult, Value

DEPTH, LAMBDA = "adapter.adapter_strategy.stochastic_depth", "adapter.adapter_strategy.l2_lambda"
LR, NORM = "optim.lr", "adapter.norm_position"
DEPTH_AXIS = Axis(key=DEPTH, kind="linear", low=0.0, high=0.8)
LAMBDA_AXIS = Axis(key=LAMBDA, kind="zero_or_log", low=1e-5, high=1e-1)
LR_AXIS = Axis(key=LR, kind="log", low=1e-4, high=1e-2)
NORM_AXIS = Axis(key=NORM, kind="categorical", choices=("pre", "post", "none"))
CER = Objective(metric="valid_target/cer", direction="minimize")
F1 = Objective(metric="valid_target/macro_f1", direction="maximize")
FORGETTING = Objective(metric="valid_forgetting", direction="minimize")


def draw_value(axis: Axis, stream: random.Random) -> Value:
    """A value as a random search draws it."""
    if axis.kind == "categorical":
        return stream.choice(axis.choices)
    assert axis.low is not None and axis.high is not None
    if axis.kind == "linear":
        return stream.uniform(axis.low, axis.high)
    if axis.kind == "zero_or_log" and stream.random() < 0.2:
        return 0.0
    return float(axis.low * (axis.high / axis.low) ** stream.random())


def make_point(arm: str, number: int, params: dict[str, Value], *values: float, **more: object) -> SearchPoint:
    """A point: complete when it has values, else pruned unless `state` says otherwise."""
    state = "complete" if values else "pruned"
    return SearchPoint.model_validate(
        {"arm": arm, "number": number, "state": state, "params": params, "values": values} | more
    )


def make_result(axes: dict[str, tuple[Axis, ...]], points: list[SearchPoint], *objectives: Objective) -> SearchResult:
    """A result; one objective, an error rate, unless told."""
    return SearchResult(name="made_up", objectives=objectives or (CER,), axes=axes, points=tuple(points))
