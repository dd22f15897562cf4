"""Batches of sequences of like length: less padding, and still in random order where a generator is given."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from harness.data.errors import DataError

WINDOW_BATCHES = 8  # how many batches' worth of shuffled items are sorted by length together


def bucketed_batches(
    lengths: Sequence[int],
    *,
    max_frames: int | None = None,
    batch_size: int | None = None,
    generator: torch.Generator | None,
) -> list[list[int]]:
    """Return the indices 0..len(lengths)-1, each once, in batches of items of similar length.

    A batch holds at most `batch_size` items, and at most `max_frames` frames after padding (items x longest);
    at least one of the two must be given. An item longer than `max_frames` makes a batch of its own.

    With a `generator` the items are shuffled, then sorted by length within windows of a few batches, and the
    order of the batches is shuffled. With None the batches are those of evaluation: sorted by length, always
    the same. Raises DataError when neither limit is given, or one is below 1.
    """
    if max_frames is None and batch_size is None:
        raise DataError("bucketed_batches needs max_frames or batch_size")
    for name, value in (("max_frames", max_frames), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise DataError(f"{name} must be at least 1, got {value}")
    if not lengths:
        return []
    if generator is None:
        order = sorted(range(len(lengths)), key=lambda i: lengths[i])
        return _cut(order, lengths, max_frames, batch_size)
    shuffled = torch.randperm(len(lengths), generator=generator).tolist()
    window = WINDOW_BATCHES * _typical_batch(lengths, max_frames, batch_size)
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), window):
        part = sorted(shuffled[start : start + window], key=lambda i: lengths[i])
        batches += _cut(part, lengths, max_frames, batch_size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def round_up(number: int, multiple: int) -> int:
    """The least multiple that is not below a number."""
    return -(-number // multiple) * multiple


def tight_batches(lengths: Sequence[int], *, max_frames: int, batch_cost: int, multiple: int) -> list[list[int]]:
    """Return the indices 0..len(lengths)-1, each once, sorted by length and cut where that costs the least.

    A batch costs its frames after padding (items x longest, rounded up) plus `batch_cost`, so that short items are not
    padded to long ones, nor every item computed alone. The least sum over all ways to cut is found by dynamic
    programming.

    Args:
        lengths: frames of each item.
        max_frames: of a batch, after padding; a longer item makes a batch of its own.
        batch_cost: what a batch costs besides its frames, in frames.
        multiple: lengths are padded to a multiple of this.

    Raises DataError when a limit is below 1.
    """
    for name, value in (("max_frames", max_frames), ("batch_cost", batch_cost), ("multiple", multiple)):
        if value < 1:
            raise DataError(f"{name} must be at least 1, got {value}")
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    # costs[n]: of the cheapest batches that hold the n shortest items; begins[n]: where the last of these begins.
    # It holds items start..end-1, so costs[end] is the least of costs[start] + cost(start..end-1) over all starts.
    costs, begins = np.zeros(len(order) + 1, dtype=np.int64), [0]
    for end in range(1, len(order) + 1):
        longest = round_up(lengths[order[end - 1]], multiple)
        starts = np.arange(max(0, end - max(1, max_frames // longest)), end)
        found = costs[starts] + (end - starts) * longest + batch_cost
        begins.append(int(starts[found.argmin()]))
        costs[end] = found.min()
    batches: list[list[int]] = []
    end = len(order)
    while end:  # walk back from the last batch to the first
        batches.insert(0, order[begins[end] : end])
        end = begins[end]
    return batches


def _typical_batch(lengths: Sequence[int], max_frames: int | None, batch_size: int | None) -> int:
    """Return about how many items make a batch."""
    limits = [batch_size] if batch_size is not None else []
    if max_frames is not None:
        limits.append(max(1, int(max_frames * len(lengths) / max(sum(lengths), 1))))
    return min(limits)


def _cut(
    order: Sequence[int], lengths: Sequence[int], max_frames: int | None, batch_size: int | None
) -> list[list[int]]:
    """Cut `order` (ascending lengths) into consecutive batches within the limits."""
    batches: list[list[int]] = []
    for index in order:
        batch = batches[-1] if batches else None
        fits = (
            batch is not None
            and (batch_size is None or len(batch) < batch_size)
            and (max_frames is None or (len(batch) + 1) * lengths[index] <= max_frames)
        )
        if fits and batch is not None:
            batch.append(index)
        else:
            batches.append([index])
    return batches


def pad_sequence_batch(sequences: Sequence[Tensor], value: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return `sequences`, each [T_i, ...], padded with `value` to [B, T, ...], and their lengths int64 [B].

    Raises DataError for an empty batch.
    """
    if not sequences:
        raise DataError("a batch needs at least one sequence")
    lengths = torch.tensor([len(sequence) for sequence in sequences], dtype=torch.int64)
    padded = torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True, padding_value=value)
    return padded, lengths
