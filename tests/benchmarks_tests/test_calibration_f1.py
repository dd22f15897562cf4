"""Macro-F1 over items: against the project's metric, loops, and a permutation test by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from calibration_f1 import _BlockCounts, compare_macro_f1, macro_f1_score

from harness.metrics.macro_f1 import macro_f1
from harness.statistics.bootstrap import METHODS, Method

RNG = np.random.default_rng(31)
TRUTH = RNG.choice(3, 120, p=[0.6, 0.3, 0.1])
FIRST = np.where(RNG.random(120) < 0.7, TRUTH, RNG.integers(0, 3, 120))
SECOND = np.where(RNG.random(120) < 0.5, TRUTH, RNG.integers(0, 3, 120))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("method", METHODS)
def test_the_score_is_the_projects_macro_f1(method: Method) -> None:
    found = macro_f1_score(TRUTH, FIRST, 3, rng(), method=method)
    assert found.value == pytest.approx(macro_f1(TRUTH.tolist(), FIRST.tolist(), 3))
    assert found.interval is not None and found.interval.contains(found.value)
    four = macro_f1_score(TRUTH, FIRST, 4, rng(), method=method)  # a class that never occurs counts 0
    assert four.value == pytest.approx(found.value * 3 / 4)


def test_resampled_scores_by_loops() -> None:
    counts = _BlockCounts(TRUTH, [FIRST, SECOND], 3, np.arange(120) // 4)
    weights = rng().multinomial(30, np.full(30, 1 / 30), size=15).astype(float)
    for row, value in zip(weights, counts.macro_f1(weights, [1.0, -1.0]), strict=True):
        items = np.concatenate([np.arange(4 * b, 4 * b + 4) for b in np.repeat(np.arange(30), row.astype(int))])
        scores = [macro_f1(TRUTH[items].tolist(), guess[items].tolist(), 3) for guess in (FIRST, SECOND)]
        assert value == pytest.approx(scores[0] - scores[1])


@pytest.mark.parametrize("signs", [[1.0, 0.0], [1.0, -1.0]])
def test_the_delta_methods_error_is_the_jackknifes(signs: list[float]) -> None:
    counts = _BlockCounts(TRUTH, [FIRST, SECOND], 3, None)
    left_out = counts.macro_f1(1.0 - np.eye(120), signs)
    jackknife = np.sqrt(119 / 120 * ((left_out - left_out.mean()) ** 2).sum())
    assert counts.standard_error(np.ones((1, 120)), signs)[0] == pytest.approx(jackknife, rel=0.03)


def test_the_delta_methods_error_is_the_bootstraps() -> None:
    counts = _BlockCounts(TRUTH, [FIRST], 3, None)
    weights = rng().multinomial(120, np.full(120, 1 / 120), size=4_000).astype(float)
    assert counts.macro_f1(weights, [1.0]).std() == pytest.approx(
        counts.standard_error(np.ones((1, 120)), [1.0])[0], rel=0.08
    )


def test_the_swap_test_by_brute_force() -> None:
    truth, x, y = np.array([0, 1, 0, 1, 1, 0, 1]), np.array([0, 1, 0, 1, 1, 0, 0]), np.array([1, 1, 0, 0, 0, 0, 1])
    observed = macro_f1(truth.tolist(), x.tolist(), 2) - macro_f1(truth.tolist(), y.tolist(), 2)
    extreme = []
    for pattern in itertools.product([False, True], repeat=7):
        a, b = np.where(pattern, y, x), np.where(pattern, x, y)
        swapped = macro_f1(truth.tolist(), a.tolist(), 2) - macro_f1(truth.tolist(), b.tolist(), 2)
        extreme.append(abs(swapped) >= abs(observed) - 1e-12)
    exact = float(np.mean(extreme))
    found = compare_macro_f1(truth, x, y, 2, rng(), num_swaps=20_000)
    assert found.difference == pytest.approx(observed)
    assert found.p_value == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))


def test_a_system_against_itself() -> None:
    found = compare_macro_f1(TRUTH, FIRST, FIRST, 3, rng())
    assert (found.difference, found.p_value) == (0.0, 1.0)
    assert found.interval is not None and found.interval.half_width == 0.0


def test_order_of_items_and_names_of_classes_do_not_matter() -> None:
    names = np.array([2, 0, 1])
    plain = compare_macro_f1(TRUTH, FIRST, SECOND, 3, rng())
    renamed = compare_macro_f1(names[TRUTH], names[FIRST], names[SECOND], 3, rng())
    assert renamed.difference == pytest.approx(plain.difference)
    assert renamed.p_value == plain.p_value
    assert plain.interval is not None and renamed.interval is not None
    assert (renamed.interval.low, renamed.interval.high) == pytest.approx((plain.interval.low, plain.interval.high))


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not all in 0 \.\.\. 1"):
        macro_f1_score(TRUTH, FIRST, 2, rng())
    with pytest.raises(ValueError, match="120 references, but 119 predictions"):
        macro_f1_score(TRUTH, FIRST[1:], 3, rng())
    with pytest.raises(ValueError, match="class numbers"):
        macro_f1_score(TRUTH, FIRST / 2, 3, rng())  # type: ignore[arg-type]
    assert macro_f1_score([1], [1], 3, rng()).interval is None
