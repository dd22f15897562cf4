"""The task of one backbone on one corpus: whether they fit together, and what prepares the examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from harness.backbones.model import HeadMaker
from harness.backbones.recipe import Recipe
from harness.config.trial import AugmentSettings
from harness.data.corpus import Corpus
from harness.tasks.fitting import check_outputs
from harness.tasks.inputs import INPUTS
from harness.tasks.registry import task_of_recipe
from harness.tasks.task import WholeTask


def head_maker(recipe: Recipe) -> HeadMaker:
    """What makes a fresh head for a backbone's task, with the recipe's pooling.

    Raises:
        UserError: as `task_of_recipe`.
    """
    task = task_of_recipe(recipe)
    if recipe.pooling == "mean":
        return task.head

    def make(dim: int, num_symbols: int) -> nn.Module:
        from harness.backbones.pooling import POOLINGS

        head: Any = task.head(dim, num_symbols)
        head.pool = POOLINGS[recipe.pooling](dim)
        return head

    return make


def make_task(
    recipe: Recipe, symbols: Sequence[str], tokenizer: Any, corpus: Corpus, augment: AugmentSettings | None
) -> WholeTask:
    """The task of a backbone on a corpus; `augment` masks speech features in training.

    Args:
        symbols: the backbone's outputs.
        tokenizer: of a backbone that reads text.

    Raises:
        UserError: the corpus is not of the kind that the backbone reads, its examples lack what the task learns, or it
            asks for other outputs than the backbone has.
    """
    check_outputs(recipe, symbols, corpus)
    task, reads = task_of_recipe(recipe), recipe.encoder.reads
    return task.make(recipe, symbols, INPUTS[reads].make(recipe, tokenizer, corpus, augment))
