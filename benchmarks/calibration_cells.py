"""One cell or one comparison by itself: Student's interval over seeds, and the test of `harness compare`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from calibration_tables import ITEM_DF, NOISES

from harness.seeding import rng as named_rng
from harness.statistics import PairedSample, compare_alone, t_quantile
from harness.statistics.samples import Floats

SAMPLES, COMPARISONS = 20_000, 8_000
COUNTS = (2, 3, 5, 10)
RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0)
LEVELS = {"5 %": 0.05, "5 % / 24": 0.05 / 24}


def calibrate_cells(scale: float) -> dict[str, Any]:
    """Coverage of a cell's own interval over n seeds: Student's t, and the percentile bootstrap for comparison."""
    found: dict[str, Any] = {}
    for name in ("gaussian", "heavy", "skewed", "very_skewed", "failing"):
        for n in (3, 5, 10):
            rng = named_rng(0, "calibration", "cells", name, n)
            x = NOISES[name].draw(rng, (max(200, int(SAMPLES * scale)), n))
            half = t_quantile(0.975, n - 1) * x.std(axis=1, ddof=1) / math.sqrt(n)
            found.setdefault(name, {})[str(n)] = {
                "t": float((np.abs(x.mean(axis=1)) <= half).mean()),
                "percentile": float(_percentile_holds(x[:4_000], rng).mean()),
            }
    return found


def _percentile_holds(x: Floats, rng: np.random.Generator) -> Floats:
    """Whether the percentile bootstrap's interval of each mean holds 0."""
    n = x.shape[1]
    drawn = rng.integers(0, n, size=(999, n))
    weights = np.stack([(drawn == i).sum(axis=1) for i in range(n)], axis=1) / n
    low, high = np.quantile(x @ weights.T, (0.025, 0.975), axis=1)
    return np.asarray((low <= 0) & (high >= 0), dtype=np.float64)


def calibrate_alone(scale: float) -> dict[str, Any]:
    """False marks of one comparison over seeds and items, at 5 % and at Holm's first step of 24 tests."""
    found: dict[str, Any] = {}
    for n in COUNTS:
        for ratio in RATIOS:
            rng = named_rng(0, "calibration", "alone", n, repr(ratio))
            p_values = []
            variance = ratio**2 / n
            for _ in range(max(200, int(COMPARISONS * scale))):
                x = rng.standard_normal(n) + math.sqrt(variance) * rng.standard_normal()
                told = variance * float(rng.chisquare(ITEM_DF)) / ITEM_DF
                p_values.append(compare_alone(PairedSample(x, told, ITEM_DF)).p_value)
            p = np.array(p_values, dtype=float)
            rates = {name: float((p <= level).mean()) for name, level in LEVELS.items()}
            found.setdefault(str(n), {})[str(ratio)] = rates
    return found
