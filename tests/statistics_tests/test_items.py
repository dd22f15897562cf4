"""WER and CER over items and blocks of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jiwer
import numpy as np
import pytest
from numpy.typing import ArrayLike

from harness.metrics.error_rates import word_error_rate
from harness.statistics import ItemComparison, compare_error_rates, sign_flip_test
from harness.statistics.bootstrap import METHODS, Method
from harness.statistics.items import Blocks, Ratio
from harness.statistics.samples import Floats

RNG = np.random.default_rng(21)
LENGTHS = RNG.integers(1, 12, 80).astype(float)
FIRST = RNG.binomial(LENGTHS.astype(int), 0.3).astype(float)
SECOND = RNG.binomial(LENGTHS.astype(int), 0.4).astype(float)
SPEAKERS = [f"speaker{i % 10}" for i in range(80)]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def against_none(errors: ArrayLike, lengths: ArrayLike, blocks: Blocks = None, **settings: Any) -> ItemComparison:
    """A system against one that makes no errors: the difference is its own error rate."""
    return compare_error_rates(errors, np.zeros(np.shape(errors)), lengths, rng(), blocks, **settings)


def test_the_rate_is_the_projects_word_error_rate() -> None:
    references = ["the cat sat", "on the mat", "yes", "press one for the menu now"]
    predictions = ["a cat sat", "on mat", "yes yes", "press for the the menu"]
    outputs = [jiwer.process_words(r, p) for r, p in zip(references, predictions, strict=True)]
    errors = [o.substitutions + o.deletions + o.insertions for o in outputs]
    lengths = [len(r.split()) for r in references]
    found = against_none(errors, lengths)
    assert found.difference == found.first == pytest.approx(word_error_rate(references, predictions))
    assert found.num_items == found.num_blocks == 4


def test_a_rate_is_a_ratio_of_sums_not_a_mean_of_ratios() -> None:
    found = against_none([0.0, 5.0], [10.0, 5.0])
    assert found.difference == pytest.approx(5 / 15)


def test_resampled_ratio_and_its_error_by_loops() -> None:
    ratio = Ratio.over_blocks(FIRST, LENGTHS, None)
    weights = rng().multinomial(80, np.full(80, 1 / 80), size=20).astype(float)
    for row, value, spread in zip(weights, ratio.statistic(weights), ratio.standard_error(weights), strict=True):
        items = np.repeat(np.arange(80), row.astype(int))
        expected = FIRST[items].sum() / LENGTHS[items].sum()
        residuals = FIRST[items] - expected * LENGTHS[items]
        assert value == pytest.approx(expected)
        assert spread == pytest.approx(np.sqrt(80 * residuals.var(ddof=1)) / LENGTHS[items].sum())


def test_the_linearised_error_is_the_jackknifes() -> None:
    ratio = Ratio.over_blocks(FIRST, LENGTHS, None)
    left_out = ratio.statistic(1.0 - np.eye(80))
    jackknife = np.sqrt(79 / 80 * ((left_out - left_out.mean()) ** 2).sum())
    assert ratio.standard_error(np.ones((1, 80)))[0] == pytest.approx(jackknife, rel=0.03)


def test_difference_and_interval() -> None:
    found = compare_error_rates(FIRST, SECOND, LENGTHS, rng())
    assert found.first == pytest.approx(FIRST.sum() / LENGTHS.sum())
    assert found.difference == pytest.approx(found.first - found.second)
    assert found.interval is not None and found.interval.contains(found.difference)
    assert found.p_value == sign_flip_test(FIRST - SECOND, rng()).p_value


@pytest.mark.parametrize("method", ["percentile", "bootstrap_t"])
def test_swapping_the_systems_turns_the_signs(method: Method) -> None:
    there = compare_error_rates(FIRST, SECOND, LENGTHS, rng(), method=method)
    back = compare_error_rates(SECOND, FIRST, LENGTHS, rng(), method=method)
    assert there.difference == -back.difference and there.p_value == back.p_value
    assert there.interval is not None and back.interval is not None
    assert (there.interval.low, there.interval.high) == pytest.approx((-back.interval.high, -back.interval.low))


def test_a_system_against_itself() -> None:
    found = compare_error_rates(FIRST, FIRST, LENGTHS, rng())
    assert (found.difference, found.p_value) == (0.0, 1.0)
    assert found.interval is not None and found.interval.half_width == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_items_that_are_shared_cancel(method: Method) -> None:
    # both systems fail on the same utterances: the difference is known far better than either rate
    hard = RNG.permutation(LENGTHS)
    first, second = np.minimum(LENGTHS, hard), np.minimum(LENGTHS, hard) * 0.9
    one = against_none(first, LENGTHS, method=method).interval
    difference = compare_error_rates(first, second, LENGTHS, rng(), method=method).interval
    assert one is not None and difference is not None
    assert difference.half_width < one.half_width / 4


def test_blocks_are_the_sums_of_their_utterances() -> None:
    names = sorted(set(SPEAKERS), key=SPEAKERS.index)
    sums = [[values[[s == n for s in SPEAKERS]].sum() for n in names] for values in (FIRST, SECOND, LENGTHS)]
    by_label = compare_error_rates(FIRST, SECOND, LENGTHS, rng(), SPEAKERS)
    summed = compare_error_rates(sums[0], sums[1], sums[2], rng())
    assert by_label.num_items == 80 and by_label.num_blocks == summed.num_blocks == 10
    assert (by_label.interval, by_label.p_value) == (summed.interval, summed.p_value)


def test_dependent_utterances_need_blocks() -> None:
    # ten speakers, each good or bad throughout: eighty utterances are ten pieces of information
    rate = np.repeat(np.linspace(0.0, 1.0, 10), 8)
    labels = np.repeat(np.arange(10), 8)
    lengths = np.full(80, 10.0)
    alone = against_none(rate * lengths, lengths).interval
    blocked = against_none(rate * lengths, lengths, labels).interval
    assert alone is not None and blocked is not None
    assert blocked.half_width > 2 * alone.half_width


def test_one_speaker_gives_no_interval() -> None:
    found = compare_error_rates(FIRST, SECOND, LENGTHS, rng(), ["one"] * 80)
    assert found.interval is None and found.num_blocks == 1
    assert found.p_value == 1.0  # two patterns, both as extreme
    assert against_none([1.0], [3.0]).interval is None


def test_an_empty_reference_among_others() -> None:
    found = against_none([1.0, 2.0, 1.0], [0.0, 5.0, 4.0], method="percentile")
    assert found.difference == pytest.approx(4 / 9) and found.interval is not None


@pytest.mark.parametrize(
    ("errors", "lengths", "message"),
    [
        ([1.0, -1.0], [3.0, 3.0], "negative"),
        ([1.0, 1.0], [0.0, 0.0], "all 0"),
        ([1.0, 1.0], [3.0], r"first \(2,\), second \(2,\), lengths \(1,\)"),
        ([1.0, float("nan")], [3.0, 3.0], "not a finite number"),
    ],
)
def test_wrong_input_is_refused(errors: Sequence[float], lengths: Sequence[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        against_none(errors, lengths)


def test_every_seed_of_the_generator_gives_nearly_the_same_ends() -> None:
    ends: Floats = np.array(
        [
            (found.low, found.high)
            for seed in range(8)
            if (found := compare_error_rates(FIRST, SECOND, LENGTHS, rng(seed)).interval) is not None
        ]
    )
    assert ends.std(axis=0).max() < 0.06 * (ends[:, 1] - ends[:, 0]).mean()
