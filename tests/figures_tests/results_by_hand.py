"""Search results with a planted truth, for the tests of the figures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from harness.sweep.points import Axis, Objective, SearchPoint, SearchResult

P, LAMBDA = "adapter.adapter_strategy.stochastic_depth", "adapter.adapter_strategy.l2_lambda"
AXES = (
    Axis(key=P, kind="linear", low=0.0, high=0.9),
    Axis(key=LAMBDA, kind="zero_or_log", low=1e-6, high=1e-2),
)
F1 = Objective(metric="valid_target/macro_f1", direction="maximize")
FORGETTING = Objective(metric="valid_forgetting", direction="minimize")


def score(values: dict[str, Any]) -> float:
    """Depends on lambda alone, and is best at 1e-4."""
    lam = values[LAMBDA]
    return 0.6 - 0.05 * (math.log10(lam) + 4) ** 2 if lam else 0.3


def search_result(num: int = 30, *, objectives: tuple[Objective, ...] = (F1,), **changes: Any) -> SearchResult:
    """`num` random trials of one arm; every seventh is pruned, every third violates a constraint."""
    rng = np.random.default_rng(0)
    points = []
    for number in range(num):
        lam = 0.0 if number % 10 == 9 else float(10 ** rng.uniform(-6, -2))
        params = {P: float(rng.uniform(0, 0.9)), LAMBDA: lam}
        value = score(params)
        settings: dict[str, Any] = {
            "arm": "both",
            "number": number,
            "state": "pruned" if number % 7 == 6 else "complete",
            "params": params,
            "values": () if number % 7 == 6 else (value, 0.1 * params[P])[: len(objectives)],
            "valid": {F1.metric: value},
            "violations": (0.01 if number % 3 == 0 else -0.01,),
        }
        points.append(SearchPoint(**settings | changes))
    return SearchResult(name="planted", objectives=objectives, axes={"both": AXES}, points=tuple(points))
