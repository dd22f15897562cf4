"""Winners at the end of what was searched."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from harness.config.sweep import Parameter
from harness.search.edges import edge_remarks

LR: dict[str, Any] = {"type": "log_float", "low": 1e-4, "high": 1e-2}
DEPTH: dict[str, Any] = {"type": "float", "low": 0.0, "high": 0.9}
L2: dict[str, Any] = {"type": "zero_or_log", "low": 1e-6, "high": 1e-2}
DIM: dict[str, Any] = {"type": "int", "low": 8, "high": 64, "step": 8}
LOG_DIM: dict[str, Any] = {"type": "int", "low": 4, "high": 1024, "log": True}
RATES: dict[str, Any] = {"type": "categorical", "choices": [1e-3, 3e-4, 1e-2, 3e-2]}
WEIGHTS: dict[str, Any] = {"type": "categorical", "choices": [0, 0.1, 1]}


@pytest.mark.parametrize(
    ("space", "value", "end"),
    [
        *((LR, value, end) for value, end in ((1e-2, "upper"), (8.1e-3, "upper"), (7.9e-3, None), (1.3e-4, None))),
        *((LR, value, end) for value, end in ((1e-4, "lower"), (1.25e-4, "lower"), (1e-3, None))),
        # Nothing lies beyond a probability of zero, nor beside the zero that was drawn.
        *((DEPTH, value, end) for value, end in ((0.0, None), (0.01, None), (0.86, "upper"), (0.8, None))),
        *((L2, value, end) for value, end in ((0.0, None), (1e-6, None), (1e-4, None), (9e-3, "upper"))),
        *((DIM, value, end) for value, end in ((8, "lower"), (16, None), (64, "upper"))),
        *((LOG_DIM, value, end) for value, end in ((5, "lower"), (6, None), (800, "upper"), (700, None))),
        *((RATES, value, end) for value, end in ((3e-2, "upper"), (3e-4, "lower"), (1e-2, None), (1e-3, None))),
        *((WEIGHTS, value, end) for value, end in ((0, None), (0.1, None), (1, "upper"))),
        ({"type": "float", "low": -1.0, "high": 1.0}, -0.95, "lower"),
        *(
            ({"type": "float", "low": -1.0, "high": 0.0}, *pair)
            for pair in ((0.0, None), (-0.01, None), (-0.97, "lower"))
        ),
        *(({"type": "categorical", "choices": [-2, -1, 0]}, *pair) for pair in ((0, None), (-2, "lower"))),
        ({"type": "categorical", "choices": [1, 2]}, 2, None),  # of two numbers each is an end
        ({"type": "categorical", "choices": ["cosine", "linear", "none"]}, "none", None),
        ({"type": "categorical", "choices": [None, 1, 2]}, 2, None),
    ],
)
def test_an_end(space: dict[str, Any], value: float, end: str | None) -> None:
    parameter = TypeAdapter[Parameter](Parameter).validate_python(space)
    told = edge_remarks({"optim.lr": parameter}, {"optim.lr": value})
    assert [f"the {end} end" in text for text in told] == ([] if end is None else [True])


def test_the_line_names_setting_end_and_range() -> None:
    of = TypeAdapter[Parameter](Parameter).validate_python
    space = {"optim.lr": of(RATES), "adapter.dim": of(DIM), "loop.epochs": of(DIM)}
    assert edge_remarks(space, {"optim.lr": 0.03, "adapter.dim": 8}) == [
        "optim.lr is at the upper end of its search (0.0003 to 0.03); better values may lie beyond",
        "adapter.dim is at the lower end of its search (8 to 64); better values may lie beyond",
    ]
