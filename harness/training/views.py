"""Augmented views of training items: a finite set, and which of them an epoch uses.

View v of an item never changes (harness/data/spec_augment.py), so views are as good as further items: a frozen prefix
is kept for each. Which one an epoch uses is drawn for each trial, from its seed: in every N epochs each item is met in
each of its N views once, in an order of its own that is drawn anew for the next N.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from harness.config.trial import AugmentSettings
from harness.seeding import torch_generator
from harness.tasks.task import Item


def num_views_of(augment: AugmentSettings | None) -> int | None:
    """N; None where training uses no finite set of views."""
    return None if augment is None else augment.views


def all_views(items: Sequence[Item], num_views: int) -> list[Item]:
    """Every view of every item: view v of item i at i N + v. Their inputs are shared, and masked when they are used."""
    return [replace(item, view=view) for item in items for view in range(num_views)]


def views_of_epoch(num_items: int, num_views: int, seed: int, epoch: int) -> list[int]:
    """The view of each item in an epoch, counted from 0.

    Args:
        num_items: of the trial, whose order they have.
        num_views: N.
        seed: of the trial.
        epoch: from 0.
    """
    generator = torch_generator(seed, "augmentation", "views", epoch // num_views)
    keys_IV = torch.rand((num_items, num_views), generator=generator, dtype=torch.float64)
    return keys_IV.argsort(dim=1, stable=True)[:, epoch % num_views].tolist()
