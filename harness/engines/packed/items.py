"""What a slot trains and scores on: items with what reaches the cut, and the shapes that their batches are padded to.

Shape legend: N items, S target symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass
class ScoreSet:
    """Validation items of a domain, in batches."""

    items: ItemSet
    batches: list[list[int]]


def make_score_set(fitting: Fitting, domain: str, prefixes: Prefixes, unpadded: bool) -> ScoreSet:
    """The validation items of a domain, in batches with little padding; in few, where none is computed on."""
    domains, items = fitting.domains, fitting.validation.items(domain)
    task = prefixes.of(domains).task(fitting.config, fitting.model, domain, "valid", domains.plain_task)
    item_set = make_item_set(task, items)
    if unpadded:
        return ScoreSet(item_set, bucketed_batches(item_set.lengths, max_frames=WIDE_STEPS, generator=None))
    return ScoreSet(item_set, task.score_batches(items, domains.plain_task.score_steps))


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
