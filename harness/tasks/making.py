"""The task of one backbone on one corpus: whether they fit together, and what prepares the examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from harness.backbones.model import HeadMaker
from harness.backbones.recipe import Recipe
from harness.config.trial import AugmentSettings
from harness.data.corpus import Corpus
from harness.errors import UserError
from harness.tasks.inputs import INPUTS
from harness.tasks.registry import TASKS, task_of_recipe
from harness.tasks.task import WholeTask

FIELDS = {"label": "class", "second": "second text", "value": "number", "tags": "tags", "transcript": "transcript"}
"""What examples may have besides a text or recording, by its field and in words."""


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
    task, reads = task_of_recipe(recipe), recipe.encoder.reads
    if corpus.modality != reads:
        raise UserError(f"backbone {recipe.name} reads {reads}, but corpus {corpus.name} is {corpus.modality}")
    _check_examples(recipe, corpus)
    outputs = task.outputs(corpus)
    if not task.can_answer(symbols, outputs):
        raise UserError(
            f"corpus {corpus.name} has outputs {list(outputs)}, but backbone {recipe.name} gives {list(symbols)}"
        )
    return task.make(recipe, symbols, INPUTS[reads].make(recipe, tokenizer, corpus, augment))


def _check_examples(recipe: Recipe, corpus: Corpus) -> None:
    """Look at one example, which the corpus's others are like; raises UserError where the task cannot learn it."""
    example = next(example for examples in corpus.domains.values() for example in examples)
    has = {name for name in FIELDS if getattr(example, name, None) not in (None, "", ())}
    task = task_of_recipe(recipe)
    if set(task.needs) <= has and not has & set(task.lacks):
        return
    # A class, a transcript or tags of a corpus: which tasks would learn these.
    fitting = [
        name
        for name, other in TASKS.items()
        if other.reads == corpus.modality and set(other.needs) <= has and not has & set(other.lacks)
    ]
    found = ", ".join(FIELDS[name] for name in FIELDS if name in has) or "nothing to learn"
    needed = " and ".join(FIELDS[name] for name in task.needs)
    raise UserError(
        f"recipe {recipe.name}: task: {recipe.task_name} needs {needed}"
        f"{' and no ' + ' and no '.join(FIELDS[name] for name in task.lacks) if task.lacks else ''}, but examples of "
        f"corpus {corpus.name} have {found}; choices: {', '.join(fitting) or 'another data.options.answer'}"
    )
