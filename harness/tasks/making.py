"""The task of one backbone on one corpus: whether they fit together, and what prepares the examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.backbones.recipe import Recipe
from harness.config.trial import AugmentSettings
from harness.data.corpus import Corpus
from harness.errors import UserError
from harness.tasks.inputs import INPUTS
from harness.tasks.registry import task_of_recipe
from harness.tasks.task import WholeTask


def make_task(
    recipe: Recipe, symbols: Sequence[str], tokenizer: Any, corpus: Corpus, augment: AugmentSettings | None
) -> WholeTask:
    """The task of a backbone on a corpus; `augment` masks speech features in training.

    Args:
        symbols: the backbone's outputs.
        tokenizer: of a backbone that reads text.

    Raises:
        UserError: the corpus is not of the kind that the backbone reads, or asks for other outputs than it has.
    """
    task, reads = task_of_recipe(recipe), recipe.encoder.reads
    if corpus.modality != reads:
        raise UserError(f"backbone {recipe.name} reads {reads}, but corpus {corpus.name} is {corpus.modality}")
    outputs = task.outputs(corpus)
    if not task.can_answer(symbols, outputs):
        raise UserError(
            f"corpus {corpus.name} has outputs {list(outputs)}, but backbone {recipe.name} gives {list(symbols)}"
        )
    return task.make(recipe, symbols, INPUTS[reads].make(recipe, tokenizer, corpus, augment))
