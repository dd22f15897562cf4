"""Seed noise for the calibration: tables in which no arm differs from another, drawn from several kinds of noise.

A table is an array [arms, columns, seeds] whose true means are all 0. `measured` noises resample what the seeds did in
the published tables: row k of every arm and column belongs to the same real seed, so the correlation between arms and
columns stays as it was. A Gaussian kernel fills the gaps between the five real seeds (the smoothed bootstrap of
Silverman and Young 1987), as wide as Silverman's rule says for five values; the `..._narrow` ones are half an sd wide,
which repeats the five seeds more closely than five seeds can justify.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from harness.records.store import RecordStore
from harness.statistics.samples import Floats

RESULTS = Path(__file__).parents[1] / "results"
COLUMNS = {
    "text_strategies": ("target_macro_f1", "target_accuracy", "source_macro_f1", "forgetting"),
    "speech_strategies": ("target_cer", "target_wer", "source_cer", "forgetting"),
}
ARMS, NUM_COLUMNS = 7, 4  # of every simulated table: a baseline and six others, 24 comparisons
BANDWIDTH = (4.0 / (3.0 * 5.0)) ** 0.2  # 0.77 sd, Silverman (1986), eq. 3.28
NARROW = 0.5
ARM_CORRELATION, COLUMN_CORRELATION = 0.3, 0.5  # of the made-up noises; measured ones bring their own
FAILING, FALL = 0.10, 5.0  # a seed in ten ends 5 sd below the others, as `adapter_no_residual` on speech did

Draw = Callable[[np.random.Generator, int, int], Floats]  # generator, tables, seeds -> [tables, arms, columns, seeds]


def residuals(experiment: str) -> Floats:
    """What each seed added to its arm's mean in a published table, unit variance; [arms, columns, 5 seeds].

    The frozen arm, which no seed moves, is left out.
    """
    store = RecordStore(RESULTS, experiment)
    values = []
    for arm, trials in store.manifest().arms.items():
        if arm == "frozen":
            continue
        metrics = [record.summary.metrics for i in trials.values() if (record := store.trial(i).record()) is not None]
        values.append([[seed[name] for seed in metrics] for name in COLUMNS[experiment]])
    array = np.array(values)
    return (array - array.mean(axis=2, keepdims=True)) / array.std(axis=2, keepdims=True)


def measured(experiment: str, bandwidth: float = BANDWIDTH) -> Draw:
    """Noise as the seeds of a published table made it, arm by arm."""
    pool = residuals(experiment)

    def draw(rng: np.random.Generator, tables: int, seeds: int) -> Floats:
        picked = pool[:, :, rng.integers(0, pool.shape[2], size=(tables, seeds))]  # [arms, columns, tables, seeds]
        noise = rng.standard_normal((tables, ARMS, NUM_COLUMNS, seeds))
        return (np.moveaxis(picked, 2, 0) + bandwidth * noise) / np.sqrt(1.0 + bandwidth**2)

    return draw


def arm_correlation(experiment: str) -> float:
    """Mean correlation between two arms over the seeds of a published table, all columns."""
    pool = residuals(experiment)
    num_arms = pool.shape[0]
    sums = [float(np.sum(np.corrcoef(pool[:, column]))) - num_arms for column in range(pool.shape[1])]
    return sum(sums) / len(sums) / (num_arms * (num_arms - 1))


def gaussian(rng: np.random.Generator, tables: int, seeds: int) -> Floats:
    """Normal, with a share of each seed's luck common to all arms, and of each arm's to all columns."""
    common = rng.standard_normal((tables, 1, NUM_COLUMNS, seeds))
    of_arm = rng.standard_normal((tables, ARMS, 1, seeds))
    own = rng.standard_normal((tables, ARMS, NUM_COLUMNS, seeds))
    rest = 1.0 - ARM_CORRELATION - COLUMN_CORRELATION
    return np.sqrt(ARM_CORRELATION) * common + np.sqrt(COLUMN_CORRELATION) * of_arm + np.sqrt(rest) * own


def skewed(rng: np.random.Generator, tables: int, seeds: int) -> Floats:
    """Log-normal with a skewness of 3.7, one arm in two mirrored, so that differences are skewed as well."""
    sigma = 0.8
    values = np.exp(sigma * gaussian(rng, tables, seeds)) - np.exp(sigma**2 / 2.0)
    return values * np.where(np.arange(ARMS) % 2 == 0, 1.0, -1.0)[:, None, None]


def failing(rng: np.random.Generator, tables: int, seeds: int) -> Floats:
    """Gaussian, but one seed in ten of an arm collapses (in all columns); the mean is still 0."""
    lost = rng.random((tables, ARMS, 1, seeds)) < FAILING
    return gaussian(rng, tables, seeds) - FALL * (lost - FAILING)


NOISES: dict[str, Draw] = {
    "gaussian": gaussian,
    "measured_text": measured("text_strategies"),
    "measured_speech": measured("speech_strategies"),
    "skewed": skewed,
    "failing_seeds": failing,
    "measured_text_narrow": measured("text_strategies", NARROW),
    "measured_speech_narrow": measured("speech_strategies", NARROW),
}
