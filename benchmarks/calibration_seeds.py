"""Over seeds: coverage of the interval of a cell and of a paired difference, and false marks in a whole table.

The candidates are computed for thousands of samples at once; `check_against_library` compares those that the library
offers with the library's own answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from calibration_noise import NOISES, Draw
from scipy import stats
from scipy.special import ndtr, ndtri

from harness.seeding import rng as named_rng
from harness.statistics import compare_table, holm, holm_by_group, summarise, t_quantile, t_two_sided_p
from harness.statistics.bootstrap import resample_weights
from harness.statistics.samples import Floats

COUNTS = (3, 5, 10)
TABLES = 4_000
SAMPLES = 6_000  # for coverage
RESAMPLES = 2_000
ALPHA = 0.05
EFFECT = 2.0  # true difference in sds of the differences, for power

Bounds = tuple[Floats, Floats]


def t_bounds(x: Floats) -> Bounds:
    """Student's interval; x [samples, n]."""
    half = t_quantile(1 - ALPHA / 2, x.shape[1] - 1) * x.std(axis=1, ddof=1) / math.sqrt(x.shape[1])
    return x.mean(axis=1) - half, x.mean(axis=1) + half


def percentile_bounds(x: Floats, tail: float = ALPHA / 2) -> Bounds:
    """Percentile bootstrap of the mean."""
    means = x @ _weights(x.shape[1]).T
    low, high = np.quantile(means, (tail, 1 - tail), axis=1)
    return low, high


def expanded_bounds(x: Floats) -> Bounds:
    """Percentile bootstrap at Hesterberg's (2015) wider level."""
    n = x.shape[1]
    return percentile_bounds(x, float(ndtr(-math.sqrt(n / (n - 1)) * t_quantile(1 - ALPHA / 2, n - 1))))


def bca_bounds(x: Floats) -> Bounds:
    """Bias-corrected and accelerated bootstrap of the mean."""
    means, mean = x @ _weights(x.shape[1]).T, x.mean(axis=1, keepdims=True)
    below = (means < mean - 1e-12).mean(axis=1) + 0.5 * (np.abs(means - mean) <= 1e-12).mean(axis=1)
    bias = ndtri(np.clip(below, 0.5 / RESAMPLES, 1 - 0.5 / RESAMPLES))
    deviations = x - mean  # proportional to the leave-one-out deviations
    acceleration = (deviations**3).sum(axis=1) / (6 * (deviations**2).sum(axis=1) ** 1.5)
    ends = []
    ordered = np.sort(means, axis=1)
    for z in (ndtri(ALPHA / 2), ndtri(1 - ALPHA / 2)):
        level = ndtr(bias + (bias + z) / (1 - acceleration * (bias + z)))
        position = level * (means.shape[1] - 1)
        below_index = np.floor(position).astype(int)
        above_index = np.minimum(below_index + 1, means.shape[1] - 1)
        rows, share = np.arange(len(x)), position - below_index
        ends.append(ordered[rows, below_index] * (1 - share) + ordered[rows, above_index] * share)
    return ends[0], ends[1]


def bootstrap_t_bounds(x: Floats) -> Bounds:
    """Studentised bootstrap of the mean; infinite where too many resamples have no spread."""
    n, weights = x.shape[1], _weights(x.shape[1])
    centred = x - x.mean(axis=1, keepdims=True)
    means = centred @ weights.T
    spread = np.sqrt(np.maximum((centred**2) @ weights.T - means**2, 0.0) / (n - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(spread > 1e-9, means / spread, np.copysign(np.inf, means))
    low, high = np.quantile(ratios, (ALPHA / 2, 1 - ALPHA / 2), axis=1, method="inverted_cdf")
    mean, error = x.mean(axis=1), x.std(axis=1, ddof=1) / math.sqrt(n)
    return mean - high * error, mean - low * error


def _weights(n: int) -> Floats:
    """Resample weights that sum to 1, the same for every sample: all n^n of them for 3 and 5 seeds."""
    if n**n <= 4_000:
        drawn = np.stack(np.meshgrid(*[np.arange(n)] * n, indexing="ij"), axis=-1).reshape(-1, n)
        return np.stack([(drawn == i).sum(axis=1) for i in range(n)], axis=1) / n
    return resample_weights(n, RESAMPLES, named_rng(0, "calibration", "weights", n)) / n


INTERVALS: dict[str, Callable[[Floats], Bounds]] = {
    "t": t_bounds,
    "percentile": percentile_bounds,
    "expanded_percentile": expanded_bounds,
    "bca": bca_bounds,
    "bootstrap_t": bootstrap_t_bounds,
}


def t_test(x: Floats) -> Floats:
    """p-values of the paired t-test; x [samples, n] are differences."""
    t = x.mean(axis=1) / (x.std(axis=1, ddof=1) / math.sqrt(x.shape[1]))
    return np.frompyfunc(lambda value: t_two_sided_p(value, x.shape[1] - 1), 1, 1)(t).astype(np.float64)


def sign_flip(x: Floats) -> Floats:
    """Exact sign-flip p-values over all 2^n patterns."""
    n = x.shape[1]
    signs = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) * 2.0 - 1.0
    p_values = []
    for part in np.array_split(x, max(1, len(x) * 2**n // 20_000_000)):
        extreme = np.abs(part @ signs.T) >= np.abs(part.sum(axis=1, keepdims=True)) - 1e-9
        p_values.append(extreme.mean(axis=1))
    return np.concatenate(p_values)


def wilcoxon(x: Floats) -> Floats:
    """Exact signed-rank p-values."""
    return np.asarray(stats.wilcoxon(x, axis=1, method="exact").pvalue)


def welch(x: Floats, y: Floats) -> Floats:
    """Unpaired p-values, for comparison: what ignoring the shared seeds does."""
    return np.asarray(stats.ttest_ind(x, y, axis=1, equal_var=False).pvalue)


TESTS: dict[str, Callable[[Floats], Floats]] = {"t": t_test, "sign_flip": sign_flip, "wilcoxon": wilcoxon}


def coverage(draw: Draw, name: str, n: int, samples: int) -> dict[str, Any]:
    """Coverage and median length (in true sds) of a cell's interval and of a paired difference's, for each method."""
    tables = draw(named_rng(0, "calibration", "coverage", name, n), samples, n)
    order = np.arange(samples)  # one comparison of each table: every arm and column in turn, none twice
    arm, column = 1 + order % (tables.shape[1] - 1), order // (tables.shape[1] - 1) % tables.shape[2]
    cells, baseline = tables[order, arm, column], tables[order, 0, column]
    differences = cells - baseline
    found: dict[str, Any] = {"cell": {}, "difference": {}}
    for what, x in (("cell", cells), ("difference", differences)):
        for method, bounds in INTERVALS.items():
            low, high = _in_parts(bounds, x)
            found[what][method] = {
                "coverage": float(((low <= 0) & (high >= 0)).mean()),
                "median_length": _number(float(np.median(high - low))),
            }
    found["test"] = {test: float((p(differences) <= ALPHA).mean()) for test, p in TESTS.items()}
    moved = differences + EFFECT * differences.std()
    found["power"] = {test: float((p(moved) <= ALPHA).mean()) for test, p in TESTS.items()}
    found["test"]["welch_unpaired"] = float((welch(cells, baseline) <= ALPHA).mean())
    found["power"]["welch_unpaired"] = float((welch(cells + EFFECT * differences.std(), baseline) <= ALPHA).mean())
    return found


def table_errors(draw: Draw, name: str, n: int, num_tables: int) -> dict[str, float]:
    """Share of tables without any effect in which at least one comparison is marked, for each procedure."""
    tables = draw(named_rng(0, "calibration", "tables", name, n), num_tables, n)
    differences = tables[:, 1:] - tables[:, :1]  # [tables, arms - 1, columns, seeds]
    shape = differences.shape[:3]
    flat = differences.reshape(-1, n)
    found = {}
    for test, p in TESTS.items():
        p_values = p(flat).reshape(shape)
        found[f"{test}_uncorrected"] = float((p_values <= ALPHA).any(axis=(1, 2)).mean())
        found[f"{test}_holm"] = float((p_values * (shape[1] * shape[2]) <= ALPHA).any(axis=(1, 2)).mean())
        found[f"{test}_holm_per_column"] = float((p_values * shape[1] <= ALPHA).any(axis=(1, 2)).mean())
        if test == "t":
            _check_holm(p_values[:200])
            found["t_holm_one_column"] = float((p_values * shape[1] <= ALPHA).any(axis=1).mean())
    low, high = _in_parts(percentile_bounds, flat[: 1_000 * shape[1] * shape[2]])
    outside = ((low > 0) | (high < 0)).reshape(-1, shape[1] * shape[2])
    found["percentile_uncorrected"] = float(outside.any(axis=1).mean())
    check_against_library(tables[:20], differences[:20])
    return found


def _check_holm(p_values: Floats) -> None:
    """A table has a mark by Holm exactly if its smallest p-value times the number of tests is at most alpha."""
    for table in p_values:
        flat = table.ravel().tolist()
        marks = [p is not None and p <= ALPHA for p in holm(flat)]
        assert any(marks) == (min(flat) * len(flat) <= ALPHA)
        columns = list(range(table.shape[1])) * table.shape[0]
        by_column = [p is not None and p <= ALPHA for p in holm_by_group(flat, columns)]
        assert any(by_column) == (min(flat) * table.shape[0] <= ALPHA)


def check_against_library(tables: Floats, differences: Floats) -> None:
    """The vectorised t and Holm give what `compare_table` gives."""
    for table, deltas in zip(tables, differences, strict=True):
        scores = {
            str(column): {str(arm): dict(enumerate(table[arm, column])) for arm in range(table.shape[0])}
            for column in range(table.shape[1])
        }
        found = compare_table(scores, baseline="0")
        for (column, arm), comparison in found.items():
            x = deltas[int(arm) - 1, int(column)][None]
            low, high = t_bounds(x)
            interval = comparison.paired.interval
            assert interval is not None and comparison.paired.p_value is not None
            np.testing.assert_allclose([interval.low, interval.high], [low[0], high[0]], rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(comparison.paired.p_value, t_test(x)[0], rtol=1e-9)
        cell = summarise(table[0, 0]).interval
        low, high = t_bounds(table[0, 0][None])
        assert cell is not None
        np.testing.assert_allclose([cell.low, cell.high], [low[0], high[0]], rtol=1e-9, atol=1e-12)


def _in_parts(bounds: Callable[[Floats], Bounds], x: Floats) -> Bounds:
    """A thousand samples at a time: a resampled table of all of them would not fit."""
    parts = [bounds(part) for part in np.array_split(x, max(1, len(x) // 1_000))]
    return np.concatenate([low for low, _ in parts]), np.concatenate([high for _, high in parts])


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def calibrate_seeds(scale: float = 1.0) -> dict[str, Any]:
    """All of it: noise -> number of seeds -> what was found; `scale` < 1 for a quick look."""
    samples, tables = max(100, int(SAMPLES * scale)), max(100, int(TABLES * scale))
    return {
        name: {
            str(n): coverage(draw, name, n, samples) | {"table": table_errors(draw, name, n, tables)} for n in COUNTS
        }
        for name, draw in NOISES.items()
    }
