"""Whether a backbone and a corpus fit together: found out before torch or a model is loaded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from harness.backbones.facts import read_facts
from harness.backbones.recipe import Recipe, load_recipe
from harness.config.base import content_hash
from harness.config.trial import DataSettings, TrialConfig
from harness.data.corpus import Corpus
from harness.data.loaded import LoadedCorpora
from harness.errors import UserError
from harness.tasks.registry import TASKS, task_of_recipe

FIELDS = {"label": "class", "second": "second text", "value": "number", "tags": "tags", "transcript": "transcript"}
"""What examples may have besides a text or recording, by its field and in words."""

WAY_OUT = "write a recipe for this corpus: harness init NAME --data PATH"


def check_outputs(recipe: Recipe, symbols: Sequence[str] | None, corpus: Corpus) -> None:
    """Refuse a corpus that is not of the kind that a backbone reads, whose examples lack what its task learns, or that
    asks for other outputs than it has.

    Args:
        symbols: the backbone's outputs; None where they are not known before it is loaded.

    Raises:
        UserError: it does not fit; one line that says the way out.
    """
    task, reads = task_of_recipe(recipe), recipe.encoder.reads
    if corpus.modality != reads:
        raise UserError(
            f"backbone {recipe.name} reads {reads}, but corpus {corpus.name} is {corpus.modality}; {WAY_OUT}"
        )
    _check_examples(recipe, corpus)
    outputs = task.outputs(corpus)
    if symbols is not None and not task.can_answer(symbols, outputs):
        raise UserError(
            f"corpus {corpus.name} has outputs {list(outputs)}, but backbone {recipe.name} gives {list(symbols)}; "
            f"{WAY_OUT}"
        )


def _check_examples(recipe: Recipe, corpus: Corpus) -> None:
    """Look at one example, which the corpus's others are like; raises UserError where the task cannot learn it."""
    task, fitting, has = task_of_recipe(recipe), fitting_tasks(corpus), _fields(corpus)
    if task in [TASKS[name] for name in fitting]:
        return
    found = ", ".join(FIELDS[name] for name in FIELDS if name in has) or "nothing to learn"
    needed = " and ".join(FIELDS[name] for name in task.needs)
    raise UserError(
        f"recipe {recipe.name}: task: {recipe.task_name} needs {needed}"
        f"{' and no ' + ' and no '.join(FIELDS[name] for name in task.lacks) if task.lacks else ''}, but examples of "
        f"corpus {corpus.name} have {found}; choices: {', '.join(fitting) or 'another data.options.answer'}"
    )


def fitting_tasks(corpus: Corpus) -> list[str]:
    """The tasks that learn what a corpus has: a class, a transcript, tags ... of a text, of two, or of a recording."""
    has = _fields(corpus)
    return [
        name
        for name, task in TASKS.items()
        if task.reads == corpus.modality and set(task.needs) <= has and not has & set(task.lacks)
    ]


def _fields(corpus: Corpus) -> set[str]:
    """Which of `FIELDS` the examples of a corpus have, of which one is like the others."""
    example = next(example for examples in corpus.domains.values() for example in examples)
    return {name for name in FIELDS if getattr(example, name, None) not in (None, "", ())}


def check_domains(recipe: Recipe, data: DataSettings) -> None:
    """Refuse a source that a backbone was not trained on; raises UserError with one line about the first."""
    foreign = [name for name in data.source if name not in recipe.data.domains]
    if foreign:
        raise UserError(
            f"data.source: backbone {recipe.name} was not trained on {foreign[0]!r}; "
            f"choices: {', '.join(recipe.data.domains)}"
        )


def check_target(recipe: Recipe, data: DataSettings) -> None:
    """Refuse a target that a backbone was trained on; raises UserError. What only gives weights may go on with it."""
    if data.target in recipe.data.domains:
        raise UserError(
            f"data.target: backbone {recipe.name} was already trained on {data.target!r}; name another. An adapter of "
            "it, for other arms to take, belongs under parts"
        )


def check_fits(
    named: Iterable[tuple[str, TrialConfig]], where: str, corpora: LoadedCorpora, parts: Collection[str] = ()
) -> None:
    """Read the corpora of some trials, and check that each fits its backbone.

    Args:
        named: the trials, each with the name of its arm.
        where: the file that they come from.
        corpora: keeps what is read, for a caller that goes on to use it.
        parts: the ids of those that are no rows, but give weights to others.

    Raises:
        UserError: `WHERE: arm NAME: ...`: a corpus or backbone is missing, or they do not fit together.
    """
    checked = set()
    for arm, config in named:
        is_row = config.trial_id not in parts
        key = content_hash([config.backbone.recipe, config.data.model_dump(mode="json"), is_row])
        if key in checked:
            continue
        checked.add(key)
        try:
            recipe = load_recipe(config.backbone.recipe)
            # A model that answers with its own decoder has no folder, and no list of outputs.
            symbols = None if recipe.train == "none" else read_facts(recipe, config.backbone.recipe)["symbols"]
            corpus = corpora.corpus(config.data, recipe.text.normaliser_name)
            check_outputs(recipe, symbols, corpus)
            check_domains(recipe, config.data)
            if is_row:
                check_target(recipe, config.data)
            if symbols is not None:
                _check_answers(recipe, symbols, corpus, config.data)
        except UserError as error:
            raise UserError(f"{where}: arm {arm}: {error}") from error


def _check_answers(recipe: Recipe, symbols: Sequence[str], corpus: Corpus, data: DataSettings) -> None:
    """Look at the answers of each domain; raises UserError as `WholeTask.check_domain`."""
    no_inputs: Any = None  # what prepares examples needs torch, and is not asked here
    task = task_of_recipe(recipe).make(recipe, symbols, no_inputs)
    for name in (data.target, *data.source):
        task.check_domain(corpus, name)
