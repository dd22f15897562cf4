"""Every registered task: what it says of itself, its head, loss, predictions and scores; and how a record's is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from made_once import made_once
from tiny_tasks import corpus_of, tiny_task

from harness.backbones.blocks import valid_steps
from harness.backbones.recipe import Recipe
from harness.data.corpora.registry import load_corpus
from harness.data.corpus import Corpus, Example, TextExample
from harness.errors import UserError
from harness.metrics import METRICS, describe_metric
from harness.tasks.inputs import INPUTS, Inputs
from harness.tasks.registry import TASKS, find_task, name_of_task, task_of_recipe, task_with_metrics
from harness.tasks.task import Item, WholeTask

DIM, NUM_STEPS = 8, 40
WITH_HEAD = [name for name in TASKS if name != "seq2seq"]  # whose head is a pretrained decoder (test_seq2seq.py)


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Corpus]:
    """A small corpus for each task."""
    root = made_once(
        tmp_path_factory, "task_corpora", lambda folder: [tiny_task(name, folder / name) for name in TASKS]
    )
    return {name: load_corpus(f"manifest:{corpus_of(name, root / name)}") for name in TASKS}


class StepsInputs(Inputs):
    """Inputs of one length, so that a head can be tried without an encoder."""

    score_steps, align = 100, 4

    @classmethod
    def make(cls, *args: Any) -> StepsInputs:
        return cls()

    def prepare(self, examples: Sequence[Example]) -> list[torch.Tensor]:
        return [torch.zeros(NUM_STEPS, 2) for _ in examples]

    def word_places(self, example: Example) -> list[int | None]:
        assert isinstance(example, TextExample)
        return [2 * number for number in range(len(example.words))]


def task_and_items(name: str, corpora: dict[str, Corpus]) -> tuple[WholeTask, list[Item]]:
    corpus = corpora[name]
    task = TASKS[name](TASKS[name].outputs(corpus), StepsInputs())
    domain = next(iter(corpus.domains))
    return task, task.encode(corpus.split(domain, "train")[:6])


def scores_of(task: WholeTask, num_items: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of a fresh head on random hidden states, in float64, and the mask of real steps."""
    torch.manual_seed(0)
    head = task.head(DIM, len(task.symbols)).double()
    hidden_BTD = torch.randn(num_items, NUM_STEPS, DIM, dtype=torch.float64)
    valid_BT = valid_steps(torch.arange(num_items) + NUM_STEPS - num_items, NUM_STEPS)
    with torch.no_grad():
        return head(hidden_BTD, valid_BT), valid_BT


@pytest.mark.parametrize("name", TASKS)
def test_what_a_task_says_of_itself(name: str) -> None:
    task = TASKS[name]
    assert name_of_task(task) == name and find_task(name, "here") is task
    assert task.reads in INPUTS
    assert len(set(task.metrics)) == len(task.metrics) and set(task.metrics) <= set(METRICS)
    assert task.primary in task.metrics
    assert METRICS[task.primary].unit == "%", "forgetting is told in points"
    assert task.columns and all(describe_metric(column) is not None for column in task.columns)
    needed = {argument for metric in task.metrics for argument in METRICS[metric].arguments}
    assert needed <= set(task.arguments(("a", "b"))), "the task gives what its metrics need"
    item_metric = task.item_metric()
    assert item_metric is None or METRICS[item_metric].items is not None


@pytest.mark.parametrize("name", WITH_HEAD)
def test_right_answers_score_full_marks_and_read_well(name: str, corpora: dict[str, Corpus]) -> None:
    task, items = task_and_items(name, corpora)
    references = [item.reference for item in items]
    scores = task.score(references, references)
    assert tuple(scores) == task.metrics
    assert all(isinstance(task.answer_text(reference, task.symbols), str) for reference in references)
    examples = corpora[name].split(next(iter(corpora[name].domains)), "train")[:6]
    assert references == [task.reference(example, task.outputs(corpora[name])) for example in examples]
    assert all(example.shown for example in examples)


@pytest.mark.parametrize("name", WITH_HEAD)
def test_the_loss_is_the_mean_of_the_rows(name: str, corpora: dict[str, Corpus]) -> None:
    """Trials are packed by their rows; a task's own loss by rows is that of one row after another."""
    task, items = task_and_items(name, corpora)
    batch = task.collate(items, None)
    scores, valid_BT = scores_of(task, len(items))
    loss, rows_B = task.loss(scores, valid_BT, batch), task.loss_rows(scores, valid_BT, batch)
    assert rows_B.shape == (len(items),)
    assert float(rows_B.mean()) == pytest.approx(float(loss), rel=1e-12)
    one_by_one_B = WholeTask.loss_rows(task, scores, valid_BT, batch)
    assert torch.allclose(rows_B, one_by_one_B, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", WITH_HEAD)
def test_the_loss_falls_along_its_gradient(name: str, corpora: dict[str, Corpus]) -> None:
    task, items = task_and_items(name, corpora)
    batch = task.collate(items, None)
    scores, valid_BT = scores_of(task, len(items))
    scores = scores.requires_grad_()
    loss = task.loss(scores, valid_BT, batch)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert float(task.loss((scores - 0.1 * gradient).detach(), valid_BT, batch)) < float(loss.detach())


@pytest.mark.parametrize("name", WITH_HEAD)
def test_predictions_are_comparable_with_references(name: str, corpora: dict[str, Corpus]) -> None:
    task, items = task_and_items(name, corpora)
    scores, valid_BT = scores_of(task, len(items))
    predictions = task.predict(scores, valid_BT, task.collate(items, None))
    assert len(predictions) == len(items)
    assert {type(prediction) for prediction in predictions} == {type(items[0].reference)}
    assert task.score([item.reference for item in items], predictions).keys() == set(task.metrics)


@pytest.mark.parametrize("name", TASKS)
def test_a_record_that_names_no_task_is_told_by_its_metrics(name: str) -> None:
    """As records are that are older than tasks: they have the metrics of the two that there were."""
    primary = TASKS[name].primary
    first = next(task for task in TASKS.values() if task.primary == primary)
    for names in ({primary}, {f"target_{primary}", "forgetting"}, {"valid_target/loss", f"valid_target/{primary}"}):
        assert task_with_metrics(names) is first
    assert task_with_metrics({"forgetting", "seconds", "valid_target/loss"}) is None


def recipe(kind: str, **more: Any) -> Recipe:
    return Recipe.model_validate(
        {"name": "r", "data": {"corpus": "vader", "domains": ["tweets"]}, "encoder": {"kind": kind}, **more}
    )


@pytest.mark.parametrize("kind, task, text, key", [
    ("text", "text_classification", {"alphabet": "characters"}, "alphabet"),
    ("text", "text_classification", {"normaliser": "none"}, "normaliser"),
    ("speech", "seq2seq", {"normaliser": "basic", "alphabet": "characters"}, "alphabet"),
])  # fmt: skip
def test_a_choice_of_text_that_a_task_does_not_heed_is_refused(
    kind: str, task: str, text: dict[str, str], key: str
) -> None:
    with pytest.raises(
        UserError, match=rf"^recipe r: text\.{key} changes nothing for the task {task}; keys that it heeds"
    ):
        task_of_recipe(recipe(kind, task=task, text=text))
    assert task_of_recipe(recipe("speech", text={"alphabet": "characters", "normaliser": "none"})) is TASKS["ctc"]


def test_a_recipe_has_its_encoders_usual_task_or_names_one() -> None:
    assert name_of_task(task_of_recipe(recipe("text"))) == "text_classification"
    assert name_of_task(task_of_recipe(recipe("speech"))) == "ctc"
    assert recipe("speech", task="ctc").recipe_id == recipe("speech").recipe_id  # which it was before tasks had names
    assert recipe("speech", task="another").recipe_id != recipe("speech").recipe_id
    with pytest.raises(
        UserError, match=r"^recipe r: task: no task 'another'; choices: text_classification, text_"
    ) as told:
        task_of_recipe(recipe("text", task="another"))
    assert "\n" not in str(told.value)
    with pytest.raises(UserError, match=r"^recipe r: task: ctc reads speech, .* text reads text; choices: text_class"):
        task_of_recipe(recipe("text", task="ctc"))


def test_descriptions_are_read_without_torch() -> None:
    code = (
        "import sys; from harness.records.task import task_of; from harness.tasks.registry import TASKS;"
        "[(task.metrics, task.item_metric(), task.arguments(('a',))) for task in TASKS.values()];"
        "sys.exit('torch' in sys.modules or 'jiwer' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(root)}, timeout=60).returncode == 0
