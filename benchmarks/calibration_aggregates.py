"""Several targets: coverage of the mean, the interquartile mean and the probability of improvement."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.seeding import rng as named_rng
from harness.statistics import (
    Interval,
    aggregate_targets,
    compare_aggregates,
    interquartile_mean,
    probability_of_improvement,
)
from harness.statistics.aggregates import Aggregate
from harness.statistics.samples import Floats

COUNTS = (3, 5, 10)
SETS, RESAMPLES = 800, 999
TARGETS = 5
SPREAD = 4.0  # of the targets' true scores, in sds over seeds: targets differ more than seeds do
GAIN = 0.5  # how much better the first arm is, in sds over seeds

Make = Callable[[np.random.Generator], Interval | None]  # draws scores, makes their interval


def mean_over_targets(scores: Floats) -> Floats:
    """Mean of all scores; [..., seeds, targets] -> [...]."""
    return scores.mean(axis=(-2, -1))


def calibrate_aggregates(scale: float) -> dict[str, Any]:
    """Mean, IQM and probability of improvement over five targets of different difficulty; Gaussian seeds.

    The true values come from 20,000 seeds a target, and the targets stay the same from set to set.
    """
    rng = np.random.default_rng(0)
    targets = rng.standard_normal(TARGETS) * SPREAD

    def arm(rng: np.random.Generator, seeds: int, gain: float) -> Floats:
        return targets + gain + rng.standard_normal((seeds, TARGETS))

    def one(seeds: int, aggregate: Aggregate) -> Make:
        return lambda rng: aggregate_targets(arm(rng, seeds, 0.0), rng, aggregate, num_resamples=RESAMPLES).interval

    def difference(seeds: int, aggregate: Aggregate) -> Make:
        def make(rng: np.random.Generator) -> Interval | None:
            better, worse = arm(rng, seeds, GAIN), arm(rng, seeds, 0.0)
            return compare_aggregates(better, worse, rng, aggregate, num_resamples=RESAMPLES).interval

        return make

    def improvement(seeds: int) -> Make:
        def make(rng: np.random.Generator) -> Interval | None:
            better, worse = arm(rng, seeds, GAIN), arm(rng, seeds, 0.0)
            return probability_of_improvement(better, worse, rng, num_resamples=RESAMPLES).interval

        return make

    iqm = float(interquartile_mean(arm(rng, 20_000, 0.0)))
    chance = 0.5 * math.erfc(-GAIN / 2.0)  # P(N(GAIN, 2) > 0), the same on every target
    mean = float(targets.mean())
    makers: dict[str, tuple[float, Callable[[int], Make]]] = {
        "mean": (mean, lambda n: one(n, mean_over_targets)),
        "mean_difference": (GAIN, lambda n: difference(n, mean_over_targets)),
        "iqm": (iqm, lambda n: one(n, interquartile_mean)),
        "iqm_difference": (GAIN, lambda n: difference(n, interquartile_mean)),
        "probability_of_improvement": (chance, improvement),
    }
    sets = max(50, int(SETS * scale))
    return {
        str(n): {name: _coverage(truth, make(n), sets, name, n) for name, (truth, make) in makers.items()}
        for n in COUNTS
    }


def _coverage(truth: float, make: Make, sets: int, name: str, n: int) -> float:
    found = [make(named_rng(0, "calibration", name, n, index)) for index in range(sets)]
    return sum(interval is not None and interval.contains(truth) for interval in found) / sets
