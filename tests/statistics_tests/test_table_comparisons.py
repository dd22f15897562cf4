"""A whole table at once: which comparisons are a family, and what the corrected values are."""

from __future__ import annotations

import numpy as np
import pytest

from harness.statistics import compare_by_seed, compare_table, holm

RNG = np.random.default_rng(11)
SCORES = {
    column: {
        arm: dict(enumerate(RNG.normal(shift, 1.0, 5).tolist())) for arm, shift in (("base", 0), ("a", 3), ("b", 0))
    }
    for column in ("wer", "cer")
}


def test_every_comparison_is_there_and_corrected_over_the_table() -> None:
    found = compare_table(SCORES, "base")
    assert list(found) == [("wer", "a"), ("wer", "b"), ("cer", "a"), ("cer", "b")]
    raw = [compare_by_seed(SCORES[c][a], SCORES[c]["base"]).p_value for c, a in found]
    assert [comparison.adjusted_p for comparison in found.values()] == holm(raw)
    assert {comparison.family_size for comparison in found.values()} == {4}


def test_a_column_as_a_family() -> None:
    found = compare_table(SCORES, "base", family="column")
    raw = [found["cer", arm].paired.p_value for arm in ("a", "b")]
    assert [found["cer", arm].adjusted_p for arm in ("a", "b")] == holm(raw)
    assert {comparison.family_size for comparison in found.values()} == {2}


def test_what_cannot_be_tested_does_not_cost_the_others() -> None:
    scores = {"acc": {"base": {0: 0.5, 1: 0.5}, "same": {0: 0.5, 1: 0.5}, "one": {0: 0.7}, "a": {0: 0.6, 1: 0.65}}}
    found = compare_table(scores, "base")
    assert [found["acc", arm].paired.status for arm in ("same", "one", "a")] == ["identical", "one_pair", "tested"]
    assert found["acc", "a"].adjusted_p == found["acc", "a"].paired.p_value
    assert found["acc", "same"].adjusted_p is None and not found["acc", "same"].significant()
    assert found["acc", "a"].family_size == 1


def test_significant_is_by_the_corrected_value() -> None:
    scores = {"x": {"base": {0: 0.0, 1: 0.1, 2: -0.1}, "a": {0: 1.0, 1: 1.2, 2: 0.9}, "b": {0: 0.3, 1: -0.2, 2: 0.1}}}
    found = compare_table(scores, "base")
    a = found["x", "a"]
    assert a.adjusted_p == pytest.approx(2 * (a.paired.p_value or 0))
    assert a.significant() and not a.significant(alpha=0.001) and not found["x", "b"].significant()


def test_wrong_names_are_told() -> None:
    with pytest.raises(ValueError, match="column 'wer' has no arm 'frozen' to compare with; choices: base, a, b"):
        compare_table(SCORES, "frozen")
    with pytest.raises(ValueError, match="choices: table, column"):
        compare_table(SCORES, "base", family="row")  # type: ignore[arg-type]
