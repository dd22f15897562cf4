"""The error of a score, or of a difference of scores, that is due to the choice of test items.

Scores are linearised: a score of other items of the same kind is this score plus the sum of the items' influences
(`ScoredMetric.influences`). Influences of items that depend on one another (a document, a speaker, copies of a text)
are summed to blocks, and blocks are what varies. Means and differences of scores have the means and differences of
their influences, so a cell, a comparison and a contrast are all treated alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from harness.statistics.samples import Floats


@dataclass(frozen=True, eq=False)
class Influence:
    """What each block of test items adds to a score.

    Attributes:
        blocks: shape [blocks], sorted labels, each once.
        values: shape [blocks], the sum of the influences of the block's items, in the score's unit.
    """

    blocks: NDArray[np.str_]
    values: Floats

    @classmethod
    def of_items(cls, influences: Floats, groups: Sequence[str]) -> Influence:
        """Sum the items' influences by group; both have shape [items].

        Raises:
            ValueError: the two differ in length, or there is no item.
        """
        if len(influences) != len(groups) or not len(influences):
            raise ValueError(f"{len(influences)} influences and {len(groups)} groups: one of each is needed an item")
        blocks, numbers = _blocks_of(tuple(groups))
        return cls(blocks, np.bincount(numbers, influences, minlength=len(blocks)).astype(np.float64))


def combine(parts: Sequence[tuple[float, Influence]]) -> Influence:
    """The influence of a weighted sum of scores, over the blocks that any of them has."""
    blocks, rows = _aligned([part for _, part in parts])
    return Influence(blocks, np.array([weight for weight, _ in parts]) @ rows)


def item_variance(by_seed: Sequence[Influence]) -> float:
    """The variance, due to the choice of test items alone, of the mean over seeds of a score or difference.

    Seeds and items are crossed: every seed is tested on the same items. What seeds and items make together (the
    interaction) is part of the variance over seeds, so it is taken out here: (MS of items - MS of the interaction) /
    (seeds * items), and never less than 0.

    Args:
        by_seed: one a seed, at least one, all of the same test set; with one seed nothing can be taken out.

    Returns:
        in the score's unit squared; 0 with fewer than two blocks.

    Source: Clark (1973), J. Verbal Learning and Verbal Behavior 12; Cornfield and Tukey (1956) for the mean squares.
    """
    _, rows = _aligned(by_seed)
    num_seeds, num_blocks = rows.shape
    if num_blocks < 2:
        return 0.0
    mean = rows.mean(axis=0)
    of_items = float(mean @ mean) * num_blocks / (num_blocks - 1)  # influences sum to 0, so their mean is 0
    if num_seeds == 1:
        return of_items
    rest = rows - mean
    of_interaction = float((rest * rest).sum()) * num_blocks / ((num_seeds - 1) * (num_blocks - 1))
    return max(0.0, of_items - of_interaction / num_seeds)


# A table asks for the same few test sets again and again, in each arm, seed and metric: sorting their labels each time
# took most of its time. The arrays that are handed out are the same objects, which `_aligned` knows at a glance.
@lru_cache(maxsize=256)
def _blocks_of(groups: tuple[str, ...]) -> tuple[NDArray[np.str_], NDArray[np.intp]]:
    """The sorted labels, and the number of each item's."""
    blocks, numbers = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    return blocks, numbers


class _Same:
    """An array as a key: equal to itself alone, and kept, so that no other one gets its identity."""

    def __init__(self, array: NDArray[np.str_]) -> None:
        self.array = array

    def __hash__(self) -> int:
        return id(self.array)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.array is self.array


@lru_cache(maxsize=256)
def _union(parts: tuple[_Same, ...]) -> tuple[NDArray[np.str_], list[NDArray[np.intp]]]:
    """The labels that any part has, sorted, and where each part's labels stand among them."""
    blocks = np.unique(np.concatenate([part.array for part in parts]))
    return blocks, [np.searchsorted(blocks, part.array) for part in parts]


def _aligned(parts: Sequence[Influence]) -> tuple[NDArray[np.str_], Floats]:
    """The blocks that any part has, and the parts' values over them, [parts, blocks]."""
    blocks = parts[0].blocks
    if all(part.blocks is blocks for part in parts):
        return blocks, np.stack([part.values for part in parts])
    blocks, places = _union(tuple(_Same(part.blocks) for part in parts))
    rows = np.zeros((len(parts), len(blocks)))
    for row, part, place in zip(rows, parts, places, strict=True):
        row[place] = part.values
    return blocks, rows
