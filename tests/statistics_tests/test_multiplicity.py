"""Holm's correction by hand, and what it promises."""

from __future__ import annotations

import numpy as np
import pytest

from harness.statistics import holm, holm_distinct


def test_by_hand() -> None:
    # 4 x .01, 3 x .02, 2 x .03 and 1 x .04, none below the one before
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    # order does not matter: 3 x .005, 2 x .011, 1 x .02
    assert holm([0.02, 0.005, 0.011]) == pytest.approx([0.022, 0.015, 0.022])


def test_as_r_prints_it() -> None:
    # p.adjust(c(.01, .02, .03, .04, .05), "holm")
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])


def test_a_comparison_without_a_test_is_not_of_the_family() -> None:
    assert holm([0.02, None, 0.01]) == [0.02, None, 0.02]
    assert holm([None, None]) == [None, None]
    assert holm([]) == []


def test_never_above_one_nor_below_the_raw_value() -> None:
    p_values = np.random.default_rng(0).uniform(size=50).tolist()
    adjusted = holm(p_values)
    assert all(a is not None and p <= a <= 1.0 for p, a in zip(p_values, adjusted, strict=True))
    assert max(a for a in adjusted if a is not None) == 1.0


def test_rejections_are_the_step_down_procedure() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        p_values = (rng.uniform(size=12) ** 3).tolist()
        rejected = set()
        for rank, index in enumerate(sorted(range(12), key=lambda i: p_values[i])):
            if p_values[index] > 0.05 / (12 - rank):
                break
            rejected.add(index)
        assert {i for i, a in enumerate(holm(p_values)) if a is not None and a <= 0.05} == rejected


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="p-value"):
        holm([0.5, p])


def test_labels_must_match() -> None:
    with pytest.raises(ValueError, match="2 p-values, but 1"):
        holm_distinct([0.1, 0.2], ["a"])


def test_comparisons_that_are_one_test_count_once() -> None:
    adjusted, number = holm_distinct([0.01, 0.01, 0.04, None], ["source", "source", "target", "frozen"])
    assert (adjusted, number) == ([0.02, 0.02, 0.04, None], 2)
    with pytest.raises(ValueError, match="'source' has two p-values"):
        holm_distinct([0.01, 0.02], ["source", "source"])
