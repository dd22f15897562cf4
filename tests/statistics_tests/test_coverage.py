"""A small calibration with wide margins. The large one is benchmarks/calibration.py."""

from __future__ import annotations

import numpy as np
import pytest

from harness.statistics import PairedSample, compare_all, holm, summarise


@pytest.mark.parametrize("seeds", [3, 5])
def test_t_intervals_over_few_seeds_hold(seeds: int) -> None:
    samples = np.random.default_rng(seeds).normal(2.0, 3.0, size=(2_000, seeds))
    intervals = [summarise(sample).interval for sample in samples]
    assert 0.935 < np.mean([found is not None and found.contains(2.0) for found in intervals]) < 0.965


@pytest.mark.parametrize("ratio", [0.0, 1.5])
def test_a_whole_table_is_kept_at_its_level_over_seeds_and_items(ratio: float) -> None:
    rng, n = np.random.default_rng(2), 5
    marked, t_marked, covered = [], [], []
    for _ in range(250):
        items = ratio / np.sqrt(n) * rng.normal(size=(7, 3, 1))  # the same for all seeds of an arm
        values = rng.normal(size=(7, 3, n)) + rng.normal(size=(7, 1, n)) * 0.5 + items
        samples = {(a, c): PairedSample(values[a, c], ratio**2 / n) for a in range(7) for c in range(3)}
        p_values = [found.p_value for found in compare_all(samples).values()]
        covered += [p is not None and p > 0.05 for p in p_values]
        marked.append(any(p is not None and p <= 0.05 for p in holm(p_values)))
        over_seeds = compare_all({key: PairedSample(each.differences) for key, each in samples.items()}, min_arms=99)
        t_marked.append(any(p is not None and p <= 0.05 for p in holm([f.p_value for f in over_seeds.values()])))
    assert np.mean(marked) < 0.09
    assert 0.93 < np.mean(covered) < 0.975
    assert ratio == 0.0 or np.mean(t_marked) > 0.2  # what a t-test over seeds says of new items
