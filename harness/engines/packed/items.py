"""What a slot trains and scores on: items with what reaches the cut, and the shapes that their batches are padded to.

Shape legend: N items, S target symbols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.batching import bucketed_batches, pad_sequence_batch, round_up
from harness.engines.cut.cut import num_block_weights, reads_padded_steps
from harness.engines.cut.cut_task import CutTask
from harness.engines.cut.prefix_cache import VECTOR_STEPS, PrefixStore
from harness.engines.cut.prefixes import Prefixes
from harness.tasks.task import Item
from harness.training.engine import Fitting
from harness.training.views import all_views

WIDE = 1e9  # multiplications of a step in all blocks
WIDE_STEPS = 1024  # padded steps of all slots in a launch of a wide model: beyond, its activations leave the caches
ROWS = 4  # where batches do not have one number of rows for all, theirs is padded to a multiple of this


@dataclass
class ItemSet:
    """Items with their places in a store, their real steps at the cut (on the device and on the host), and targets.

    Where training uses `num_views` augmented views of each, view v of item i is at i `num_views` + v.
    """

    items: Sequence[Item]
    store: PrefixStore
    places_N: Tensor
    lengths_N: Tensor
    targets_NS: Tensor
    target_lengths_N: Tensor
    lengths: list[int]
    input_lengths: list[int]
    num_views: int | None = None

    def view_indices(self, batches: Sequence[Sequence[int]], views_N: Sequence[int]) -> list[list[int]]:
        """Batches of items as batches of a view of each, computing what reaches the cut where that is not there yet."""
        assert self.num_views is not None
        chosen = [[index * self.num_views + views_N[index] for index in batch] for batch in batches]
        self.store.rows([self.items[index] for batch in chosen for index in batch])
        return chosen


def make_item_set(task: CutTask, items: Sequence[Item], num_views: int | None = None) -> ItemSet:
    """Compute what reaches the cut, where that is not there yet, and pad the targets; views are computed when used."""
    if num_views is None:
        places = task.store.rows(items)
    else:
        items = all_views(items, num_views)
        places = task.store.places(items)
    targets, target_lengths = pad_sequence_batch([item.target.reshape(-1) for item in items])
    device, lengths = places.device, task.lengths(items)
    return ItemSet(
        items,
        task.store,
        places,
        lengths.to(device),
        targets.to(device),
        target_lengths.to(device),
        lengths.tolist(),
        [len(item.inputs) for item in items],
        num_views,
    )


@dataclass(frozen=True)
class Width:
    """How the steps of a trial are run.

    Attributes:
        is_wide: whether a launch's time is that of its products.
        unpads_training, unpads_scoring: whether the layers run on real steps alone (unpadded.py).
    """

    is_wide: bool
    unpads_training: bool
    unpads_scoring: bool

    def unpads(self, training: bool) -> bool:
        """Whether the layers run on real steps alone."""
        return self.unpads_training if training else self.unpads_scoring


def width_of(fitting: Fitting, items: ItemSet, can_unpad: bool) -> Width:
    """The width of a trial, which follows from what it trains alone.

    Args:
        fitting: the training.
        items: to learn from.
        can_unpad: whether the layers of its model can run on real steps alone.
    """
    loop, mean_steps = fitting.plan.loop, float(items.lengths_N.double().mean())
    work = num_block_weights(fitting.domains.frozen_model(loop).encoder) * loop.batch_size * mean_steps
    is_wide = work >= WIDE and items.lengths_N.device.type == "cpu"
    unpads = {
        training: is_wide and can_unpad and not reads_padded_steps(fitting.model, training)
        for training in (True, False)
    }
    return Width(is_wide, unpads[True], unpads[False])


@dataclass(frozen=True)
class ScorePart:
    """The items of one domain in a batch to score: their indices among the domain's, and their places in its store."""

    domain: str
    indices: tuple[int, ...]
    store: PrefixStore
    places: Tensor


@dataclass(frozen=True)
class ScoreBatch:
    """Validation items to score together, of whatever domains: the rows of one part after those of another.

    Attributes:
        parts: see there.
        num_steps: that they are padded to.
        lengths_B: real steps at the cut.
        targets_BS: padded.
        target_lengths_B: of the targets.
    """

    parts: tuple[ScorePart, ...]
    num_steps: int
    lengths_B: Tensor
    targets_BS: Tensor
    target_lengths_B: Tensor

    def gather(self) -> Tensor:
        """What reaches the cut, [B, T, D]."""
        found = [part.store.gather(part.places, self.num_steps) for part in self.parts]
        padded = [F.pad(x_BTD, (0, 0, 0, self.num_steps - x_BTD.shape[1])) for x_BTD in found]
        return padded[0] if len(padded) == 1 else torch.cat(padded)


@dataclass(frozen=True)
class ScoreSet:
    """Validation items, by domain, and the batches in which they are scored."""

    items: Mapping[str, Sequence[Item]]
    batches: Sequence[ScoreBatch]


def make_score_set(fitting: Fitting, prefixes: Prefixes, unpadded: bool) -> ScoreSet:
    """The validation items of all domains, in batches with little padding; in few, where none is computed on.

    A batch has items of several domains: those of one may be too few for a launch that is worth its overhead.
    """
    domains, validation = fitting.domains, fitting.validation
    tasks = {
        name: prefixes.of(domains).task(fitting.config, fitting.model, name, "valid", domains.plain_task)
        for name in validation.names
    }
    if not tasks:  # weights of a user's own model may train without validation
        return ScoreSet({}, [])
    sets = {name: make_item_set(task, validation.items(name)) for name, task in tasks.items()}
    rows = [(name, index) for name, items in sets.items() for index in range(len(items.items))]
    lengths = [length for items in sets.values() for length in items.lengths]
    if unpadded:
        batches = bucketed_batches(lengths, max_frames=WIDE_STEPS, generator=None)
    else:
        task, every = next(iter(tasks.values())), [item for items in sets.values() for item in items.items]
        batches = task.score_batches(every, domains.plain_task.score_steps)
    made = [_score_batch(sets, [rows[number] for number in batch]) for batch in batches]
    return ScoreSet({name: items.items for name, items in sets.items()}, made)


def _score_batch(sets: Mapping[str, ItemSet], rows: Sequence[tuple[str, int]]) -> ScoreBatch:
    parts = []
    for name, items in sets.items():
        if indices := [index for domain, index in rows if domain == name]:
            parts.append(ScorePart(name, tuple(indices), items.store, items.places_N[indices]))
    ordered = [(sets[part.domain], index) for part in parts for index in part.indices]
    lengths = [items.lengths[index] for items, index in ordered]
    targets, target_lengths = pad_sequence_batch([items.items[index].target.reshape(-1) for items, index in ordered])
    device, room = parts[0].places.device, max(part.store.plan.num_steps for part in parts)
    return ScoreBatch(
        parts=tuple(parts),
        num_steps=min(round_up(max(lengths), VECTOR_STEPS), room),
        lengths_B=torch.tensor(lengths, device=device),
        targets_BS=targets.to(device),
        target_lengths_B=target_lengths.to(device),
    )


def padded_rows(num_rows: int, batch_size: int | None, is_wide: bool) -> int:
    """The number of rows that a batch is padded to: the batch size, where batches have one, so that all can meet.

    In a wide model an epoch's last batch, which has what is left, is padded to a multiple of ROWS instead: there a
    padded row costs what a row costs, and few slots share a launch anyway.
    """
    rows = round_up(num_rows, ROWS)
    if batch_size is None:
        return rows
    return min(batch_size, rows) if is_wide else batch_size


def padded_steps(num_steps: int, is_wide: bool = False) -> int:
    """The number of steps that a batch is padded to: a power of two, or one and a half, from 4 (8, 12, 16 ...).

    In a wide model a padded step costs more than slots of other shapes save in a launch: there it is the next number
    that fills whole vectors.
    """
    if is_wide:
        return round_up(num_steps, VECTOR_STEPS)
    size = 8 if num_steps > 4 else 4  # 6 fills no whole vectors
    while size < num_steps:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    return size
