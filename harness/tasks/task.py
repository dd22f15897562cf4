"""What a task is: what the training loop asks of it (`Task`), and what a registered one says of itself (`WholeTask`).

Tables, checks and reports read a task's description without loading torch. So this file and the tasks' own files import
torch (and whatever imports it) inside the functions that compute.

Shape legend: B batch, T input steps, D width, C classes, V symbols (blank at 0), S target symbols.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from harness.config.trial import KlSettings, LoopSettings
from harness.data.corpus import Corpus, Example, Modality
from harness.errors import UserError
from harness.metrics import METRICS, Answer
from harness.tasks.losses import PLAIN_LOSS, LossOptions, loss_options
from harness.watchdog import beat

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from harness.backbones.model import TaskModel
    from harness.backbones.recipe import Recipe
    from harness.tasks.inputs import Inputs


@dataclass(frozen=True)
class Item:
    """One example, ready for the model: `inputs` is [T] token ids or [T, mels] features.

    `view` is the number of one of its augmented views, or None for itself; `Task.collate` gives a view's inputs.
    """

    key: str
    inputs: Tensor
    target: Tensor
    reference: Answer
    view: int | None = None


@dataclass(frozen=True)
class Batch:
    """Padded inputs [B, T, ...] with lengths [B], and targets: [B, 1] classes or numbers, [B, S] symbols or words."""

    inputs: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """Move to a device; floating-point inputs and targets also to a dtype."""
        inputs = self.inputs.to(device, dtype if self.inputs.is_floating_point() else None)
        targets = self.targets.to(device, dtype if self.targets.is_floating_point() else None)
        return Batch(inputs, self.lengths.to(device), targets, self.target_lengths.to(device))

    def row(self, number: int) -> Batch:
        """One example's batch, padded as here."""
        rows = slice(number, number + 1)
        return Batch(self.inputs[rows], self.lengths[rows], self.targets[rows], self.target_lengths[rows])


class Task(ABC):
    """What a loop needs of a task: items from examples, batches from items, a loss, predictions, scores.

    Attributes:
        metrics: the scores it gives.
        primary: the metric that selection, forgetting and the constrained score look at.
        why_not_captured: why a CUDA graph cannot have the task's losses in it; None where it can.
        loss_options: what the loss differs by from the plain one, while it trains.
    """

    metrics: tuple[str, ...]
    primary: str
    why_not_captured: str | None = None
    loss_options: LossOptions = PLAIN_LOSS

    @abstractmethod
    def encode(self, examples: Sequence[Example]) -> list[Item]:
        """Turn examples into items (tokens or features)."""

    @abstractmethod
    def collate(self, items: Sequence[Item], generator: torch.Generator | None) -> Batch:
        """Pad items into a batch; `generator` is given in training, for augmentation."""

    @abstractmethod
    def score_batches(self, items: Sequence[Item], max_frames: int) -> list[list[int]]:
        """The batches in which items are scored, as their indices; each has at most `max_frames` padded steps."""

    @abstractmethod
    def loss(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        """Mean loss over the examples of the batch (a scalar)."""

    def loss_rows(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        """Each example's loss, [B], whose mean is `loss`: for batches that hold the rows of several trials.

        This one works for any loss, one row at a time. Tasks that are often trained in packs override it.
        """
        import torch

        losses = [self.loss(scores[n : n + 1], valid_BT[n : n + 1], batch.row(n)) for n in range(len(scores))]
        return torch.stack(losses)

    def kl_rows(self, scores: Tensor, base: Tensor, valid_BT: Tensor, batch: Batch, temperature: float) -> Tensor:
        """How far each example's scores are from the base model's, [B] (`loop.kl_to_base`); not every task has it."""
        raise NotImplementedError

    def given(self, batch: Batch) -> tuple[Tensor, ...]:
        """What the model's head reads besides the hidden states: nothing, but for one that reads its own targets."""
        return ()

    def answers(
        self, model: TaskModel, hidden_BTD: Tensor, scores: Tensor, valid_BT: Tensor, batch: Batch
    ) -> list[Any]:
        """One prediction per example; by default from the scores alone (`predict`)."""
        return self.predict(scores, valid_BT, batch)

    @abstractmethod
    def predict(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> list[Any]:
        """One prediction per example, comparable with `Item.reference`.

        Args:
            batch: whose scores they are; of its targets a task may read where the answers go, not the answers.
        """

    def can_learn(self, item: Item, model: TaskModel) -> bool:
        """Whether the loss of a training item is finite (CTC cannot align a clip shorter than its transcript)."""
        return True

    @abstractmethod
    def score(self, references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
        """All metrics of this task."""


class WholeTask(Task):
    """Base of the tasks in `TASKS` (harness/tasks/registry.py). The faster engines can train these.

    The class describes the task and is read without torch; an object is the task of one backbone on one corpus.

    Attributes:
        reads: what examples it learns from: `text` or `speech`.
        columns: the scores that a table shows by default.
        needs, lacks: what every example of a corpus must have, and must not have, by the names of its fields.
        pools: whether its head answers from one vector of a text or recording (Recipe.pooling).
        text_keys: the keys of a recipe's `text` that it heeds.

    Args:
        symbols: the backbone's outputs: names of classes, or an alphabet.
        inputs: makes inputs from examples.
    """

    reads: ClassVar[Modality]
    columns: ClassVar[tuple[str, ...]]
    needs: ClassVar[tuple[str, ...]] = ()
    lacks: ClassVar[tuple[str, ...]] = ()
    pools: ClassVar[bool] = False
    text_keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self, symbols: Sequence[str], inputs: Inputs) -> None:
        self.symbols = tuple(symbols)
        self.inputs = inputs

    @classmethod
    def make(cls, recipe: Recipe, symbols: Sequence[str], inputs: Inputs) -> Self:
        """The task of a recipe's backbone with these symbols."""
        return cls(symbols, inputs)

    @classmethod
    def outputs(cls, corpus: Corpus) -> tuple[str, ...]:
        """What a backbone that learns this task on a corpus can answer."""
        return corpus.symbols

    @classmethod
    def symbols_of(cls, recipe: Recipe, corpus: Corpus) -> tuple[str, ...]:
        """The outputs of a backbone that is made by a recipe on a corpus.

        Raises:
            UserError: a setting of the recipe does not fit, or a file that it names cannot be read.
        """
        return cls.outputs(corpus)

    @classmethod
    def can_answer(cls, symbols: Sequence[str], outputs: Sequence[str]) -> bool:
        """Whether a backbone with these symbols answers what a corpus with these outputs asks."""
        return tuple(symbols) == tuple(outputs)

    @classmethod
    def arguments(cls, outputs: Sequence[str]) -> dict[str, Any]:
        """What its metrics must know of a corpus."""
        return {}

    @classmethod
    def item_metric(cls) -> str | None:
        """The metric by which single items are compared: the first that is a sum over items, primary metric first."""
        ordered = (cls.primary, *cls.metrics)
        return next((name for name in ordered if METRICS[name].items is not None), None)

    @staticmethod
    @abstractmethod
    def head(dim: int, num_symbols: int) -> nn.Module:
        """A fresh output layer: called with ([B, T, D], mask [B, T]), it gives scores ([B, C] or [B, T, V])."""

    @staticmethod
    @abstractmethod
    def reference(example: Example, outputs: Sequence[str]) -> Answer:
        """The right answer to an example, comparable with a prediction."""

    @staticmethod
    @abstractmethod
    def answer_text(answer: Answer, outputs: Sequence[str]) -> str:
        """A prediction or reference as a person reads it."""

    @abstractmethod
    def target(self, example: Example) -> Tensor:
        """What the loss compares the scores with: a class, or symbols [S].

        Raises:
            UserError: the backbone cannot give this answer.
        """

    def classes_in(self, item: Item) -> list[int]:
        """The classes that an item is to be answered with, as numbers of its symbols; options of the loss count these.

        Raises:
            NotImplementedError: its answers are no classes.
        """
        raise NotImplementedError

    def for_training(self, loop: LoopSettings, items: Sequence[Item]) -> Self:
        """This task with the loss that a training's settings ask for.

        Args:
            items: the training's.

        Raises:
            UserError: the task's loss has no such option, or there is no such class.
        """
        if loop.kl_to_base is not None:
            self.check_kl(loop.kl_to_base)
        asked = {"label_smoothing": loop.label_smoothing or None, "class_weights": loop.class_weights}
        names = [name for name, value in asked.items() if value is not None]
        if not names:
            return self
        if type(self).classes_in is WholeTask.classes_in:
            raise UserError(
                f"loop.{names[0]}: this task's answers are no classes (it is scored by {self.primary}); leave it out"
            )
        task = copy.copy(self)
        task.loss_options = loss_options(loop, self.symbols, (n for item in items for n in self.classes_in(item)))
        return task

    def check_kl(self, settings: KlSettings) -> None:
        """Raise UserError where the task has no use for `loop.kl_to_base`, or for one of its settings."""
        if type(self).kl_rows is Task.kl_rows:
            raise UserError(f"loop.kl_to_base: the task {type(self).__name__} defines no kl_rows; leave it out")

    @property
    def score_steps(self) -> int:
        """The most input steps in a batch when scoring, padding included."""
        return self.inputs.score_steps

    @property
    def align(self) -> int:
        """The faster engines pad an item to a multiple of this many input steps before they run its frozen layers."""
        return self.inputs.align

    def check_domain(self, corpus: Corpus, domain: str) -> None:
        """Refuse a domain most of whose answers the backbone cannot give.

        Raises:
            UserError: it is such a one.
        """

    def notes_on(self, domain: str, parts: Mapping[str, Sequence[Example]]) -> list[str]:
        """What a table must say of what the backbone cannot read or answer; `parts` are `training`, `test` ..."""
        return self.inputs.notes_on(domain, parts)

    def encode(self, examples: Sequence[Example]) -> list[Item]:
        return [
            Item(example.key, prepared, self.target(example), self.reference(example, self.symbols))
            for example, prepared in zip(examples, self.inputs.prepare(examples), strict=True)
        ]

    def collate(self, items: Sequence[Item], generator: torch.Generator | None) -> Batch:
        from harness.data.batching import pad_sequence_batch

        inputs, lengths = pad_sequence_batch([self.inputs_of(item) for item in items])
        targets, target_lengths = pad_sequence_batch([item.target.reshape(-1) for item in items])
        if generator is not None:
            inputs = self.inputs.augment(inputs, lengths, generator)
        return Batch(inputs, lengths, targets, target_lengths)

    def inputs_of(self, item: Item) -> Tensor:
        """An item's inputs; those of a view are computed here, from the item alone."""
        return item.inputs if item.view is None else self.inputs.view(item.inputs, item.key, item.view)

    def score_batches(self, items: Sequence[Item], max_frames: int) -> list[list[int]]:
        from harness.data.batching import bucketed_batches

        return bucketed_batches([len(item.inputs) for item in items], max_frames=max_frames, generator=None)

    def score(self, references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
        known = self.arguments(self.symbols)
        return {name: METRICS[name].score(references, predictions, known) for name in self.metrics}


@dataclass(frozen=True)
class Evaluation:
    """Scores of one item list, the mean loss, and each item's prediction, in item order."""

    scores: dict[str, float]
    loss: float
    predictions: tuple[Answer, ...]


def evaluate(
    model: TaskModel, task: Task, items: Sequence[Item], *, max_frames: int, device: torch.device, dtype: torch.dtype
) -> Evaluation:
    """Score a model on items, in eval mode, in batches of at most `max_frames` padded steps."""
    import torch

    was_training = model.training
    model.eval()
    predictions: list[Answer] = [""] * len(items)
    total = 0.0
    try:
        with torch.no_grad():
            for indices in task.score_batches(items, max_frames):
                beat()
                batch = task.collate([items[i] for i in indices], None).to(device, dtype)
                hidden_BTD, valid_BT = model.hidden(batch.inputs, batch.lengths)
                scores = model.head(hidden_BTD, valid_BT, *task.given(batch))
                total += float(task.loss(scores, valid_BT, batch)) * len(indices)
                answers = task.answers(model, hidden_BTD, scores, valid_BT, batch)
                for index, prediction in zip(indices, answers, strict=True):
                    predictions[index] = prediction
    finally:
        model.train(was_training)
    return evaluation_of(task, items, predictions, total)


def evaluation_of(task: Task, items: Sequence[Item], predictions: Sequence[Answer], total_loss: float) -> Evaluation:
    """The evaluation of predictions, in item order, and the sum of the items' losses."""
    scored = task.score([item.reference for item in items], predictions)
    return Evaluation(scored, total_loss / len(items), tuple(predictions))
