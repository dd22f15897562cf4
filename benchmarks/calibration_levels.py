"""Seeds and items together, and several targets: coverage of `two_level` and of the aggregates."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
from calibration_items import RESAMPLES, speech_items, tally

from harness.statistics import (
    Interval,
    aggregate_targets,
    compare_aggregates,
    compare_error_rates,
    interquartile_mean,
    mean_over_targets,
    probability_of_improvement,
    summarise,
    two_level,
)
from harness.statistics.samples import Floats
from harness.statistics.two_level import TwoLevelMethod

COUNTS = (3, 5, 10)
TARGETS = 5
SPREAD = 4.0  # of the targets' true scores, in sds over seeds: targets differ more than seeds do
GAIN = 0.5  # how much better the first arm is, in sds over seeds


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

    def both(rng: np.random.Generator, seeds: int, method: TwoLevelMethod) -> Interval | None:
        matrix, lengths = draw(rng, seeds)
        return two_level(matrix, rng, lengths, method=method, num_resamples=RESAMPLES).interval

    def items_only(rng: np.random.Generator, seeds: int) -> Interval | None:
        matrix, lengths = draw(rng, seeds)
        mean = matrix.mean(axis=0)
        better, worse = np.maximum(mean, 0.0), np.maximum(-mean, 0.0)
        return compare_error_rates(better, worse, lengths, rng, num_resamples=RESAMPLES).interval

    def seeds_only(rng: np.random.Generator, seeds: int) -> Interval | None:
        matrix, lengths = draw(rng, seeds)
        return summarise(matrix.sum(axis=1) / lengths.sum()).interval

    for n in COUNTS:
        name = ("two_level", n)
        found[str(n)] = {
            method: tally(truth, sets, lambda rng, n=n, method=method: both(rng, n, method), *name)
            for method in get_args(TwoLevelMethod)
        } | {
            "items_only": tally(truth, sets, lambda rng, n=n: items_only(rng, n), *name),
            "seeds_only": tally(truth, sets, lambda rng, n=n: seeds_only(rng, n), *name),
        }
    return found


def calibrate_aggregates(sets: int) -> dict[str, Any]:
    """Mean, IQM and probability of improvement over five targets of different difficulty; Gaussian seeds.

    The true values come from 20,000 seeds a target, and the targets stay the same from set to set.
    """
    rng = np.random.default_rng(0)
    targets = rng.standard_normal(TARGETS) * SPREAD

    def arm(rng: np.random.Generator, seeds: int, gain: float) -> Floats:
        return targets + gain + rng.standard_normal((seeds, TARGETS))

    many = arm(rng, 20_000, 0.0)
    improvement = 0.5 * math.erfc(-GAIN / 2.0)  # P(N(GAIN, 2) > 0), the same on every target
    truths = {"mean": float(targets.mean()), "iqm": float(interquartile_mean(many))}
    found: dict[str, Any] = {}
    for n in COUNTS:
        row: dict[str, Any] = {}
        for name, aggregate in (("mean", mean_over_targets), ("iqm", interquartile_mean)):
            row[name] = tally(
                truths[name],
                sets,
                lambda rng, n=n, aggregate=aggregate: (
                    aggregate_targets(arm(rng, n, 0.0), rng, aggregate, num_resamples=RESAMPLES).interval
                ),
                "aggregate",
                n,
            )
            row[f"{name}_difference"] = tally(
                GAIN,
                sets,
                lambda rng, n=n, aggregate=aggregate: (
                    compare_aggregates(
                        arm(rng, n, GAIN), arm(rng, n, 0.0), rng, aggregate, num_resamples=RESAMPLES
                    ).interval
                ),
                "aggregate_difference",
                n,
            )
        row["probability_of_improvement"] = tally(
            improvement,
            sets,
            lambda rng, n=n: (
                probability_of_improvement(arm(rng, n, GAIN), arm(rng, n, 0.0), rng, num_resamples=RESAMPLES).interval
            ),
            "improvement",
            n,
        )
        found[str(n)] = row
    return found
