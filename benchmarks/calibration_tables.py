"""Whole tables by the tables' method: false marks, coverage and power over seeds and items, against the t-test.

A table has some arms compared with a baseline in some columns, over n seeds and one test set. A seed's luck moves an
arm in all columns; the test items move all arms (and all seeds of an arm alike). Every true difference is 0 but those
that are moved for the power. The items' error of a mean difference is as large as the seeds' times a ratio; the item
variance that the method is told is itself estimated, with `ITEM_DF` degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.seeding import rng as named_rng
from harness.statistics import holm, t_two_sided_p
from harness.statistics.samples import Floats
from harness.statistics.shared_variance import MIN_ARMS, PairedSample, compare_all

COUNTS = (3, 5, 10)
RATIOS = (0.0, 0.5, 1.0, 2.0)  # items' standard error by the seeds'
PROMISED = ("gaussian", "spread")  # noises for which the false marks are promised; the others are printed beside them
TABLES, OTHER_TABLES, POWER_TABLES = 2_000, 800, 200
ITEM_DF = 100  # a test set of a hundred independent blocks
ALPHA = 0.05
MOVED = 0.4  # of the cells have a true difference, where power is measured
EFFECTS = {3: 6.0, 5: 4.5, 10: 4.0}  # that difference, in total standard errors of a cell

Draw = Callable[[np.random.Generator, tuple[int, ...]], Floats]


@dataclass(frozen=True)
class Noise:
    """Seeds' noise: its distribution (mean 0, variance 1) and the spread of the arms' and cells' log sds."""

    title: str
    draw: Draw
    arm_spread: float = 0.0
    cell_spread: float = 0.0
    loud: float = 1.0  # how many times as loud the last arms are
    num_loud: int = 1  # how many arms that is


def gaussian(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Standard normal."""
    return rng.standard_normal(shape)


def log_normal(sigma: float) -> Draw:
    """Log-normal, centred and scaled; sigma 0.3 has skewness 0.95, 0.8 has 3.7."""
    scale = math.exp(sigma**2 / 2.0) * math.sqrt(math.expm1(sigma**2))

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        return (np.exp(sigma * rng.standard_normal(shape)) - math.exp(sigma**2 / 2.0)) / scale

    return draw


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Student t with 4 degrees of freedom, scaled."""
    return rng.standard_t(4, shape) / math.sqrt(2.0)


def failing(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """One seed in ten falls by five sds."""
    return (rng.standard_normal(shape) - 5.0 * ((rng.random(shape) < 0.1) - 0.1)) / math.sqrt(1.0 + 25.0 * 0.09)


NOISES = {
    "gaussian": Noise("Gaussian", gaussian),
    "spread": Noise("sds of arms spread 0.4", gaussian, arm_spread=0.4, cell_spread=0.2),
    "wide": Noise("sds of arms spread 0.76", gaussian, arm_spread=0.76, cell_spread=0.3),
    "loud": Noise("one arm 5 times as loud", gaussian, loud=5.0),
    "heavy": Noise("Student t4", heavy, arm_spread=0.4, cell_spread=0.2),
    "skewed": Noise("log-normal 0.3", log_normal(0.3)),
    "very_skewed": Noise("log-normal 0.5", log_normal(0.5)),
    "failing": Noise("one seed in ten fails", failing),
}


@dataclass(frozen=True)
class Design:
    """One kind of table: its seeds and size, whether the baseline is frozen, and items' error by seeds' error."""

    seeds: int
    ratio: float
    frozen: bool
    arms: int = 7
    columns: int = 4


@dataclass(frozen=True)
class Sample:
    """The differences of a table [arms, columns, seeds], and the items' variance of their means [arms, columns]."""

    differences: Floats
    item_variance: Floats
    total_error: Floats


def draw_table(rng: np.random.Generator, design: Design, noise: Noise) -> Sample:
    """One table without any true difference."""
    arms, columns, n = design.arms, design.columns, design.seeds

    def luck(num_arms: int) -> Floats:
        own = noise.draw(rng, (num_arms, columns, n))
        shared = noise.draw(rng, (num_arms, 1, n))  # a seed's luck is half common to an arm's columns
        return math.sqrt(0.5) * own + math.sqrt(0.5) * shared

    sds = np.exp(
        noise.arm_spread * rng.standard_normal((arms, 1)) + noise.cell_spread * rng.standard_normal((arms, columns))
    )
    sds[-noise.num_loud :] *= noise.loud
    differences = luck(arms) * sds[:, :, None]
    variance = sds**2
    if not design.frozen:
        differences -= luck(1)  # the same baseline in every comparison
        variance = variance + 1.0
    seed_variance = variance / n
    nominal = (1.0 if design.frozen else 2.0) / n
    item_variance = np.full((arms, columns), design.ratio**2 * nominal)
    # Half of the items' error comes from the baseline, so it is common to the comparisons of a column.
    items = math.sqrt(0.5) * rng.standard_normal((1, columns)) + math.sqrt(0.5) * rng.standard_normal((arms, columns))
    differences += (items * np.sqrt(item_variance))[:, :, None]
    told = item_variance * rng.chisquare(ITEM_DF, (arms, columns)) / ITEM_DF
    return Sample(differences, told, np.sqrt(seed_variance + item_variance))


def p_values(sample: Sample, min_arms: int) -> Floats:
    """Of every cell by the tables' method, [arms, columns]."""
    arms, columns, _ = sample.differences.shape
    cells = {
        (a, c): PairedSample(sample.differences[a, c], float(sample.item_variance[a, c]), ITEM_DF)
        for a in range(arms)
        for c in range(columns)
    }
    found = compare_all(cells, min_arms=min_arms)
    return np.array([[found[a, c].p_value for c in range(columns)] for a in range(arms)])


def t_p_values(sample: Sample) -> Floats:
    """Of every cell by the paired t-test over seeds alone."""
    x = sample.differences
    n = x.shape[-1]
    t = x.mean(axis=-1) / (x.std(axis=-1, ddof=1) / math.sqrt(n))
    return np.frompyfunc(lambda value: t_two_sided_p(value, n - 1), 1, 1)(t).astype(np.float64)


def calibrate(design: Design, noise: Noise, tables: int, power_tables: int, min_arms: int) -> dict[str, float]:
    """False marks by table, coverage by cell, and power; for the method and for the t-test."""
    rng = named_rng(0, "calibration", "shared", repr(replace(design)), noise.title)
    false: dict[str, list[bool]] = {"new": [], "t": []}
    covered: dict[str, list[Floats]] = {"new": [], "t": []}
    for _ in range(tables):
        sample = draw_table(rng, design, noise)
        for name, p in (("new", p_values(sample, min_arms)), ("t", t_p_values(sample))):
            false[name].append(bool(p.min() * p.size <= ALPHA))
            covered[name].append((p > ALPHA).mean(axis=1))  # the interval holds 0 exactly where p is above alpha
    found: dict[str, list[float]] = {"new": [], "t": []}
    num_moved = round(MOVED * design.arms * design.columns)
    for _ in range(power_tables):
        sample = draw_table(rng, design, noise)
        moved = np.zeros(design.arms * design.columns)
        moved[rng.permutation(moved.size)[:num_moved]] = EFFECTS[design.seeds]
        shift = moved.reshape(design.arms, design.columns) * sample.total_error
        sample = replace(sample, differences=sample.differences + shift[:, :, None])
        for name, p in (("new", p_values(sample, min_arms)), ("t", t_p_values(sample))):
            adjusted = np.array(holm(p.ravel().tolist()), dtype=float)
            found[name].append(float((adjusted[moved > 0] <= ALPHA).mean()))
    result = {}
    for name in ("new", "t"):
        cover = np.array(covered[name])
        result[f"false_{name}"] = float(np.mean(false[name]))
        result[f"coverage_{name}"] = float(cover.mean())
        result[f"power_{name}"] = float(np.mean(found[name]))
    return result


def calibrate_tables(scale: float) -> dict[str, Any]:
    """Tables of 7 compared arms and 4 columns: noise -> baseline -> seeds -> items by seeds -> what was found."""
    found: dict[str, Any] = {}
    for name, noise in NOISES.items():
        tables = max(20, int((TABLES if name in PROMISED else OTHER_TABLES) * scale))
        for frozen in (True, False):
            for n in COUNTS:
                for ratio in RATIOS:
                    design = Design(n, ratio, frozen)
                    by_ratio = found.setdefault(name, {}).setdefault(_baseline(frozen), {}).setdefault(str(n), {})
                    by_ratio[str(ratio)] = calibrate(design, noise, tables, max(5, int(POWER_TABLES * scale)), MIN_ARMS)
    return found


def calibrate_small_tables(scale: float) -> dict[str, Any]:
    """Tables of few arms against a frozen baseline, without and with sharing: why there is a least number of arms."""
    found: dict[str, Any] = {}
    for arms in (2, 4, 5, 6):
        for name in ("gaussian", "wide"):
            for n in (3, 5):
                for rule, min_arms in (("alone", 99), ("shared", 1)):
                    design = Design(n, 0.0, True, arms=arms)
                    result = calibrate(design, NOISES[name], max(20, int(OTHER_TABLES * scale)), 5, min_arms)
                    by_count = found.setdefault(str(arms), {}).setdefault(name, {}).setdefault(str(n), {})
                    by_count[rule] = result["false_new"]
    return found


def _baseline(frozen: bool) -> str:
    return "frozen" if frozen else "trained"
