"""A small calibration with wide margins. The large one is benchmarks/calibration.py."""

from __future__ import annotations

import numpy as np
import pytest

from harness.statistics import compare_paired, compare_table, summarise


@pytest.mark.parametrize("seeds", [3, 5])
def test_t_intervals_over_few_seeds_hold(seeds: int) -> None:
    samples = np.random.default_rng(seeds).normal(2.0, 3.0, size=(2_000, seeds))
    intervals = [summarise(sample).interval for sample in samples]
    assert 0.935 < np.mean([found is not None and found.contains(2.0) for found in intervals]) < 0.965


def test_the_paired_test_has_its_level() -> None:
    rng = np.random.default_rng(1)
    marks = [(compare_paired(*rng.normal(size=(2, 5))).p_value or 1.0) <= 0.05 for _ in range(2_000)]
    assert 0.035 < np.mean(marks) < 0.066


def test_holm_keeps_a_whole_table_at_its_level() -> None:
    rng = np.random.default_rng(2)
    corrected, raw = [], []
    for _ in range(400):
        values = rng.normal(size=(3, 5, 5)) + rng.normal(size=(3, 1, 5))  # columns, arms, seeds: seeds share their luck
        scores = {
            str(column): {str(arm): dict(enumerate(values[column, arm].tolist())) for arm in range(5)}
            for column in range(3)
        }
        found = compare_table(scores, "0").values()
        corrected.append(any(comparison.significant() for comparison in found))
        raw.append(any((comparison.paired.p_value or 1.0) <= 0.05 for comparison in found))
    assert np.mean(corrected) < 0.09
    assert np.mean(raw) > 0.25
