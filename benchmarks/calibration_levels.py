"""Seeds and items together, and several targets: coverage of `two_level` and of the aggregates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
from calibration_items import RESAMPLES, Make, speech_items, tally

from harness.statistics import (
    Interval,
    aggregate_targets,
    compare_aggregates,
    compare_error_rates,
    interquartile_mean,
    probability_of_improvement,
    summarise,
    two_level,
)
from harness.statistics.aggregates import Aggregate
from harness.statistics.samples import Floats
from harness.statistics.two_level import TwoLevelMethod

COUNTS = (3, 5, 10)
TARGETS = 5
SPREAD = 4.0  # of the targets' true scores, in sds over seeds: targets differ more than seeds do
GAIN = 0.5  # how much better the first arm is, in sds over seeds


def mean_over_targets(scores: Floats) -> Floats:
    """Mean of all scores; [..., seeds, targets] -> [...]."""
    return scores.mean(axis=(-2, -1))


def calibrate_two_level(sets: int, utterances: int = 120) -> dict[str, Any]:
    """CER difference for new seeds and new utterances, the two errors of equal size; one-level intervals beside it."""
    pool, found = speech_items("characters"), {}
    deltas = pool.errors[0] - pool.errors[1]
    truth = float(deltas.sum() / pool.lengths.sum())
    residuals = deltas - truth * pool.lengths
    item_error = float(residuals.std()) / pool.lengths.mean() / math.sqrt(utterances)

    def draw(rng: np.random.Generator, seeds: int) -> tuple[Floats, Floats]:
        i = rng.integers(0, len(deltas), utterances)
        shift = rng.standard_normal((seeds, 1)) * item_error * math.sqrt(seeds)
        own = rng.standard_normal((seeds, utterances)) * residuals.std()
        return deltas[i] + shift * pool.lengths[i] + own, pool.lengths[i]

    def both(seeds: int, method: TwoLevelMethod) -> Make:
        def make(rng: np.random.Generator) -> Interval | None:
            matrix, lengths = draw(rng, seeds)
            return two_level(matrix, rng, lengths, method=method, num_resamples=RESAMPLES).interval

        return make

    def items_only(seeds: int) -> Make:
        def make(rng: np.random.Generator) -> Interval | None:
            matrix, lengths = draw(rng, seeds)
            mean = matrix.mean(axis=0)
            better, worse = np.maximum(mean, 0.0), np.maximum(-mean, 0.0)
            return compare_error_rates(better, worse, lengths, rng, num_resamples=RESAMPLES).interval

        return make

    def seeds_only(seeds: int) -> Make:
        def make(rng: np.random.Generator) -> Interval | None:
            matrix, lengths = draw(rng, seeds)
            return summarise(matrix.sum(axis=1) / lengths.sum()).interval

        return make

    for n in COUNTS:
        makers = {method: both(n, method) for method in get_args(TwoLevelMethod)}
        makers |= {"items_only": items_only(n), "seeds_only": seeds_only(n)}
        found[str(n)] = {method: tally(truth, sets, make, "two_level", n) for method, make in makers.items()}
    return found


def calibrate_aggregates(sets: int) -> dict[str, Any]:
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
    return {
        str(n): {name: tally(truth, sets, make(n), name, n) for name, (truth, make) in makers.items()} for n in COUNTS
    }
