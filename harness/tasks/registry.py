"""All tasks by name. To add one: write its file, and add its class here. Loads no torch."""

from __future__ import annotations

from collections.abc import Collection

from harness.backbones.recipe import Recipe
from harness.errors import UserError, must_be_in
from harness.metrics import split_name
from harness.tasks.ctc import CtcTask
from harness.tasks.regression import RegressionTask
from harness.tasks.seq2seq import Seq2SeqTask
from harness.tasks.speech_classification import SpeechClassificationTask
from harness.tasks.task import WholeTask
from harness.tasks.text_classification import ClassificationTask
from harness.tasks.text_pair_classification import PairClassificationTask
from harness.tasks.token_tagging import TaggingTask

TASKS: dict[str, type[WholeTask]] = {
    "text_classification": ClassificationTask,
    "text_pair_classification": PairClassificationTask,
    "regression": RegressionTask,
    "token_tagging": TaggingTask,
    "ctc": CtcTask,
    "seq2seq": Seq2SeqTask,
    "speech_classification": SpeechClassificationTask,
}


def find_task(name: str, where: str) -> type[WholeTask]:
    """A task by name.

    Raises:
        UserError: there is none of this name (the choices are named).
    """
    must_be_in(name, TASKS, f"{where}: no task {name!r}")
    return TASKS[name]


def task_of_recipe(recipe: Recipe) -> type[WholeTask]:
    """The task that a backbone is made for.

    Raises:
        UserError: the recipe names no task that there is, or one that cannot use what its encoder reads, or a
            key of `text` that the task does not heed.
    """
    task = find_task(recipe.task_name, f"recipe {recipe.name}: task")
    if task.reads != recipe.encoder.reads:
        fitting = ", ".join(name for name, other in TASKS.items() if other.reads == recipe.encoder.reads)
        raise UserError(
            f"recipe {recipe.name}: task: {recipe.task_name} reads {task.reads}, but encoder.kind "
            f"{recipe.encoder.kind} reads {recipe.encoder.reads}; choices: {fitting}"
        )
    if recipe.pooling != "mean" and not task.pools:
        raise UserError(
            f"recipe {recipe.name}: pooling: {recipe.pooling}: {recipe.task_name} answers each step, so nothing is "
            "pooled; leave pooling out"
        )
    usual = type(recipe.text)()
    for key in type(recipe.text).model_fields:
        if key not in task.text_keys and getattr(recipe.text, key) != getattr(usual, key):
            heeded = ", ".join(task.text_keys) or "none"
            raise UserError(
                f"recipe {recipe.name}: text.{key} changes nothing for the task {recipe.task_name}; keys that it "
                f"heeds: {heeded}"
            )
    return task


def name_of_task(task: type[WholeTask]) -> str:
    """The name that a task is registered by."""
    return next(name for name, known in TASKS.items() if known is task)


def task_with_metrics(names: Collection[str]) -> type[WholeTask] | None:
    """The task whose primary metric is among some metrics; None without one. For results that do not name their task.

    Args:
        names: of metrics, with or without what they were measured on (`valid_target/cer`, `target_cer`, `macro_f1`).
    """
    bare = {split_name(name)[1] for name in names}
    return next((task for task in TASKS.values() if task.primary in bare), None)
