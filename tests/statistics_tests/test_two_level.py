"""Seeds and items together: an analysis of variance by hand, and its two limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.statistics import summarise, two_level
from harness.statistics.items import Ratio

RNG = np.random.default_rng(41)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_by_hand() -> None:
    # means of the rows 2, 4, of the columns 1, 3, 5; grand mean 3; no interaction but +-1 in the outer columns
    found = two_level([[1.0, 2.0, 3.0], [1.0, 4.0, 7.0]], rng())
    # rows: 3 * (1 + 1) / 1 = 6; columns: 2 * (4 + 0 + 4) / 2 = 8; residuals +-1 in 4 cells: 4 / 2 = 2
    variance = (6 + 8 - 2) / 6
    df = (6 + 8 - 2) ** 2 / (6**2 / 1 + 8**2 / 2 + 2**2 / 2)
    assert found.value == 3.0
    assert found.df == pytest.approx(df)
    assert (found.seed_error, found.item_error) == pytest.approx((1.0, math.sqrt(8 / 6)))
    assert found.interval is not None and found.interval.method == "satterthwaite"
    assert found.interval.half_width == pytest.approx(stats.t.ppf(0.975, df) * math.sqrt(variance), rel=1e-9)
    assert found.p_value == pytest.approx(2 * stats.t.sf(3.0 / math.sqrt(variance), df), rel=1e-9)


def test_seeds_alone_are_the_t_interval() -> None:
    # every item says the same: only the seeds vary
    shift = np.array([1.0, 2.0, 4.0])
    found = two_level(np.repeat(shift[:, None], 50, axis=1), rng())
    plain = summarise(shift).interval
    assert found.interval is not None and plain is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((plain.low, plain.high))
    assert found.df == pytest.approx(2.0)


def test_items_alone_are_the_items_interval() -> None:
    # every seed says the same: only the items vary
    items = RNG.normal(0.3, 1.0, 200)
    found = two_level(np.repeat(items[None], 4, axis=0), rng())
    plain = Ratio.over_blocks(items, np.ones(200), None).interval(rng(), "bootstrap_t", 2_000, 0.95)
    assert found.interval is not None and plain is not None
    assert found.interval.half_width == pytest.approx(plain.half_width, rel=0.1)
    assert found.seed_error == pytest.approx(0.0, abs=1e-12)


def test_both_are_longer_than_either() -> None:
    matrix = RNG.normal(size=(5, 1)) * 0.15 + RNG.normal(size=120) + RNG.normal(size=(5, 120)) * 0.5
    found = two_level(matrix, rng())
    assert found.interval is not None and found.df is not None
    error = found.interval.half_width
    assert error > 1.9 * max(found.seed_error, found.item_error)


def test_unbalanced_lengths_are_a_ratio_of_sums() -> None:
    lengths = RNG.integers(1, 20, 60).astype(float)
    errors = RNG.binomial(lengths.astype(int), 0.3, size=(3, 60)).astype(float)
    found = two_level(errors, rng(), lengths)
    assert found.value == pytest.approx(errors.sum() / (3 * lengths.sum()))
    doubled = two_level(2 * errors, rng(), lengths)
    assert doubled.interval is not None and found.interval is not None
    assert doubled.interval.low == pytest.approx(2 * found.interval.low)


def test_blocks_are_summed() -> None:
    matrix = RNG.normal(size=(4, 40))
    labels = np.arange(40) // 5
    found = two_level(matrix, rng(), blocks=labels)
    summed = two_level(matrix.reshape(4, 8, 5).sum(axis=2), rng(), np.full(8, 5.0))
    assert found.num_blocks == 8
    assert found.interval is not None and summed.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((summed.interval.low, summed.interval.high))


def test_the_bootstrap_is_centred_and_too_short_for_few_seeds() -> None:
    matrix = RNG.normal(size=(3, 1)) + RNG.normal(size=(3, 100)) * 0.1
    t, drawn = two_level(matrix, rng()), two_level(matrix, rng(), method="bootstrap")
    assert t.interval is not None and drawn.interval is not None and drawn.interval.method == "bootstrap"
    assert drawn.interval.contains(t.value)
    assert drawn.interval.half_width < 0.5 * t.interval.half_width
    assert drawn == two_level(matrix, rng(), method="bootstrap")


def test_nothing_to_go_by() -> None:
    one_seed = two_level([[1.0, 2.0, 4.0]], rng())
    assert (one_seed.interval, one_seed.p_value) == (None, None) and one_seed.value == pytest.approx(7 / 3)
    assert two_level(np.ones((3, 20)), rng()).interval is None
    with pytest.raises(ValueError, match="choices: satterthwaite, bootstrap"):
        two_level(np.ones((3, 20)), rng(), method="t")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="20 items"):
        two_level(np.ones((3, 20)), rng(), np.ones(19))
