"""The error over test items: influences against finite differences and resampling, variances against known truth."""

from __future__ import annotations

import numpy as np
import pytest

from harness.metrics import METRICS
from harness.metrics.macro_f1 import macro_f1_influences
from harness.statistics.item_error import Influence, combine, item_variance


def _f1(truth: np.ndarray, answer: np.ndarray, weights: np.ndarray) -> float:
    scores = []
    for label in np.union1d(truth, answer):
        both = weights[(truth == label) & (answer == label)].sum()
        scores.append(2 * both / (weights[truth == label].sum() + weights[answer == label].sum()))
    return float(np.mean(scores))


def test_influences_of_macro_f1_are_its_gradient() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 80, p=[0.6, 0.3, 0.1])
    answer = np.where(rng.random(80) < 0.6, truth, rng.choice(3, 80))
    found, step = macro_f1_influences(truth.tolist(), answer.tolist()), 1e-6
    for i in range(80):
        weights = np.ones(80)
        weights[i] += step
        assert found[i] == pytest.approx(
            (_f1(truth, answer, weights) - _f1(truth, answer, np.ones(80))) / step, abs=1e-5
        )
    assert found.sum() == pytest.approx(0.0, abs=1e-12)


def test_error_of_macro_f1_is_that_of_resampled_test_sets() -> None:
    rng = np.random.default_rng(1)
    truth = rng.choice(3, 600, p=[0.5, 0.3, 0.2])
    answer = np.where(rng.random(600) < 0.6, truth, rng.choice(3, 600))
    resampled = [_f1(truth, answer, np.bincount(rng.integers(0, 600, 600), minlength=600)) for _ in range(1_500)]
    influence = Influence.of_items(macro_f1_influences(truth.tolist(), answer.tolist()), [str(i) for i in range(600)])
    assert np.sqrt(item_variance([influence])) == pytest.approx(np.std(resampled), rel=0.06)


@pytest.mark.parametrize("name", METRICS)
def test_every_metrics_influences_sum_to_nothing(name: str) -> None:
    for case in METRICS[name].cases:
        found = METRICS[name].influences(case.references, case.predictions)
        assert found is not None and found.shape == (len(case.references),)
        assert found.sum() == pytest.approx(0.0, abs=1e-12)


def test_an_item_that_occurs_once_more_moves_an_error_rate_by_its_influence() -> None:
    references, predictions = ["ab cd", "e", "fgh"] * 40, ["ab xd", "ee", "fgh"] * 40
    found = METRICS["cer"].influences(references, predictions)
    assert found is not None
    before = METRICS["cer"].score(references, predictions)
    after = METRICS["cer"].score([*references, "e"], [*predictions, "ee"])
    assert after - before == pytest.approx(found[1], rel=0.02)


def test_an_accuracys_error_is_the_binomials_and_blocks_widen_it() -> None:
    answers = [1] * 30 + [0] * 70
    found = METRICS["accuracy"].influences([1] * 100, answers)
    assert found is not None
    alone = item_variance([Influence.of_items(found, [str(i) for i in range(100)])])
    assert alone == pytest.approx(0.3 * 0.7 / 99)
    # Ten copies of each answer are one observation.
    copies = item_variance([Influence.of_items(found, [str(i // 10) for i in range(100)])])
    assert copies == pytest.approx(0.3 * 0.7 / 9)


def test_what_seeds_and_items_make_together_is_taken_out() -> None:
    rng, seeds, items = np.random.default_rng(2), 5, 300
    names = [str(i) for i in range(items)]
    true_variance, found = 0.5**2 / items, []
    for _ in range(200):
        scores = 0.5 * rng.standard_normal(items) + 2.0 * rng.standard_normal((seeds, items))
        rows = [Influence.of_items((row - row.mean()) / items, names) for row in scores]
        found.append(item_variance(rows))
    # The floor at 0 lifts the mean a little; without the subtraction it would be 4.2 times the truth.
    assert 0.9 * true_variance < np.mean(found) < 1.5 * true_variance


def test_means_over_domains_keep_blocks_that_domains_share() -> None:
    one = Influence.of_items(np.array([1.0, -1.0]), ["a", "b"])
    two = Influence.of_items(np.array([2.0, -2.0]), ["b", "c"])
    mean = combine([(0.5, one), (0.5, two)])
    assert mean.blocks.tolist() == ["a", "b", "c"]
    assert mean.values.tolist() == [0.5, 0.5, -1.0]
    assert item_variance([mean]) == pytest.approx((0.25 + 0.25 + 1.0) * 3 / 2)
    assert item_variance([one, two]) == pytest.approx(item_variance([combine([(1.0, one)]), combine([(1.0, two)])]))


def test_one_block_says_nothing() -> None:
    assert item_variance([Influence.of_items(np.array([0.5, -0.5]), ["speaker", "speaker"])]) == 0.0
    with pytest.raises(ValueError, match="2 influences and 1 groups"):
        Influence.of_items(np.array([0.5, -0.5]), ["speaker"])
