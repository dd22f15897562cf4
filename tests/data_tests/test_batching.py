"""Batches: every index once, within the limits, little padding, reproducible."""

import pytest
import torch

from harness.data.batching import bucketed_batches, pad_sequence_batch, tight_batches
from harness.data.errors import DataError
from harness.seeding import rng, torch_generator

LENGTHS = [int(n) for n in rng(0, "lengths").integers(5, 400, size=257)]


@pytest.mark.parametrize(
    ("max_frames", "batch_size"), [(50, None), (2000, None), (None, 1), (None, 16), (50, 16), (2000, 16)]
)
@pytest.mark.parametrize("shuffled", [False, True])
def test_each_index_once_within_the_limits(max_frames: int | None, batch_size: int | None, shuffled: bool) -> None:
    generator = torch_generator(1, "order") if shuffled else None
    batches = bucketed_batches(LENGTHS, max_frames=max_frames, batch_size=batch_size, generator=generator)
    assert sorted(i for batch in batches for i in batch) == list(range(len(LENGTHS)))
    for batch in batches:
        assert batch_size is None or len(batch) <= batch_size
        frames = len(batch) * max(LENGTHS[i] for i in batch)
        assert max_frames is None or frames <= max_frames or len(batch) == 1


def test_same_generator_same_batches() -> None:
    runs = [bucketed_batches(LENGTHS, batch_size=8, generator=torch_generator(s, "order")) for s in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def test_epochs_differ() -> None:
    generator = torch_generator(3, "order")
    first = bucketed_batches(LENGTHS, batch_size=8, generator=generator)
    assert bucketed_batches(LENGTHS, batch_size=8, generator=generator) != first


def test_evaluation_order_is_by_length() -> None:
    batches = bucketed_batches(LENGTHS, batch_size=8, generator=None)
    flat = [LENGTHS[i] for batch in batches for i in batch]
    assert flat == sorted(LENGTHS)


def test_bucketing_saves_padding() -> None:
    batches = bucketed_batches(LENGTHS, batch_size=16, generator=torch_generator(0, "order"))
    padded = sum(len(batch) * max(LENGTHS[i] for i in batch) for batch in batches)
    assert sum(LENGTHS) / padded > 0.8  # about 0.55 without buckets


def cost_of(batches: list[list[int]], lengths: list[int], batch_cost: int, multiple: int) -> int:
    longest = [max(lengths[i] for i in batch) for batch in batches]
    return sum(
        len(batch) * -(-most // multiple) * multiple + batch_cost for batch, most in zip(batches, longest, strict=True)
    )


@pytest.mark.parametrize("seed", range(20))
def test_tight_batches_are_the_cheapest_of_all_cuts(seed: int) -> None:
    generator = rng(seed, "tight")
    lengths = [int(n) for n in generator.integers(1, 30, size=11)]
    batch_cost, multiple, max_frames = int(generator.integers(1, 40)), int(generator.integers(1, 5)), 90
    found = tight_batches(lengths, max_frames=max_frames, batch_cost=batch_cost, multiple=multiple)
    assert sorted(i for batch in found for i in batch) == list(range(11))
    order = sorted(range(11), key=lambda i: lengths[i])
    cheapest = None
    for places in range(1 << 10):  # every way to cut the sorted items
        batches, start = [], 0
        for end in range(1, 12):
            if end == 11 or places >> (end - 1) & 1:
                batches.append(order[start:end])
                start = end
        if all(cost_of([batch], lengths, 0, multiple) <= max_frames or len(batch) == 1 for batch in batches):
            cost = cost_of(batches, lengths, batch_cost, multiple)
            cheapest = cost if cheapest is None else min(cheapest, cost)
    assert cost_of(found, lengths, batch_cost, multiple) == cheapest


def test_tight_batches_may_begin_inside_a_run_of_equal_lengths() -> None:
    """Five of 10 and one of 12: the last batch takes one 10, so that no third batch is needed, and no more of them."""
    found = tight_batches([10, 10, 10, 10, 10, 12], max_frames=40, batch_cost=5, multiple=1)
    assert found == [[0, 1, 2, 3], [4, 5]]


def test_tight_batches_save_padding() -> None:
    tight = tight_batches(LENGTHS, max_frames=4000, batch_cost=64, multiple=4)
    wide = bucketed_batches(LENGTHS, max_frames=4000, generator=None)
    assert cost_of(tight, LENGTHS, 0, 1) < cost_of(wide, LENGTHS, 0, 1) and cost_of(tight, LENGTHS, 0, 4) < 1.05 * sum(
        LENGTHS
    )


def test_nothing_to_batch() -> None:
    assert bucketed_batches([], batch_size=4, generator=None) == []
    assert tight_batches([], max_frames=4, batch_cost=1, multiple=1) == []


def test_limits_are_checked() -> None:
    with pytest.raises(DataError, match="needs max_frames or batch_size"):
        bucketed_batches(LENGTHS, generator=None)
    with pytest.raises(DataError, match="batch_size must be at least 1, got 0"):
        bucketed_batches(LENGTHS, batch_size=0, generator=None)
    with pytest.raises(DataError, match="multiple must be at least 1, got 0"):
        tight_batches(LENGTHS, max_frames=10, batch_cost=1, multiple=0)


def test_padding() -> None:
    sequences = [torch.ones(3, 2), torch.ones(5, 2), torch.ones(1, 2)]
    padded, lengths = pad_sequence_batch(sequences, value=-1.0)
    assert padded.shape == (3, 5, 2)
    assert lengths.tolist() == [3, 5, 1]
    for row, length in zip(padded, lengths.tolist(), strict=True):
        assert (row[:length] == 1).all()
        assert (row[length:] == -1).all()


def test_padding_of_labels_keeps_integers() -> None:
    padded, lengths = pad_sequence_batch([torch.tensor([4, 5]), torch.tensor([6])])
    assert padded.tolist() == [[4, 5], [6, 0]]
    assert padded.dtype == torch.int64
    assert lengths.dtype == torch.int64


def test_an_empty_batch_is_an_error() -> None:
    with pytest.raises(DataError, match="at least one sequence"):
        pad_sequence_batch([])
