"""What the loop needs to know of a task: items from examples, batches from items, a loss, predictions, scores.

Shape legend: B batch, T input steps, C classes, V symbols (blank at 0), S target symbols.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.backbones.model import TaskModel
from harness.data.batching import bucketed_batches, pad_sequence_batch
from harness.data.corpus import Example
from harness.metrics import SCORERS


@dataclass(frozen=True)
class Item:
    """One example, ready for the model: `inputs` is [T] token ids or [T, mels] features.

    `view` is the number of one of its augmented views, or None for itself; `Task.inputs_of` gives a view's inputs.
    """

    key: str
    inputs: Tensor
    target: Tensor
    reference: int | str
    view: int | None = None


@dataclass(frozen=True)
class Batch:
    """Padded inputs [B, T, ...] with lengths [B], and targets ([B] classes or [B, S] symbols with lengths [B])."""

    inputs: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """Move to a device; floating-point inputs also to a dtype."""
        inputs = self.inputs.to(device, dtype if self.inputs.is_floating_point() else None)
        return Batch(inputs, self.lengths.to(device), self.targets.to(device), self.target_lengths.to(device))


class Task(ABC):
    """A task of one family. `metrics` are the scores it gives; the first is the primary one, used for selection."""

    metrics: tuple[str, ...]
    why_not_captured: str | None = None
    """Why a CUDA graph cannot have the task's losses in it; None where it can."""

    @property
    def primary(self) -> str:
        return self.metrics[0]

    @abstractmethod
    def encode(self, examples: Sequence[Example]) -> list[Item]:
        """Turn examples into items (tokens or features)."""

    @abstractmethod
    def loss(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        """Mean loss over the examples of the batch (a scalar)."""

    def loss_rows(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        """Each example's loss, [B], whose mean is `loss`: for batches that hold the rows of several trials."""
        raise NotImplementedError(f"{type(self).__name__} has no losses by row, so its trials cannot be packed")

    @abstractmethod
    def predict(self, scores: Tensor, valid_BT: Tensor) -> list[Any]:
        """One prediction per example, comparable with `Item.reference`."""

    def can_learn(self, item: Item, model: TaskModel) -> bool:
        """Whether the loss of a training item is finite (CTC cannot align a clip shorter than its transcript)."""
        return True

    def score_arguments(self) -> dict[str, dict[str, int]]:
        """Further arguments of the metrics, by metric."""
        return {}

    def collate(self, items: Sequence[Item], generator: torch.Generator | None) -> Batch:
        """Pad items into a batch; `generator` is given in training, for augmentation."""
        inputs, lengths = pad_sequence_batch([self.inputs_of(item) for item in items])
        targets, target_lengths = pad_sequence_batch([item.target.reshape(-1) for item in items])
        if generator is not None:
            inputs = self.augment(inputs, lengths, generator)
        return Batch(inputs, lengths, targets, target_lengths)

    def inputs_of(self, item: Item) -> Tensor:
        """An item's inputs; those of a view are computed here, from the item alone."""
        assert item.view is None, f"{type(self).__name__} has no augmented views"
        return item.inputs

    def augment(self, inputs: Tensor, lengths_B: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a training batch's inputs (nothing by default)."""
        return inputs

    def score_batches(self, items: Sequence[Item], max_frames: int) -> list[list[int]]:
        """The batches in which items are scored, as their indices: sorted by length."""
        return bucketed_batches([len(item.inputs) for item in items], max_frames=max_frames, generator=None)

    def score(self, references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
        """All metrics of this task."""
        arguments = self.score_arguments()
        return {
            name: SCORERS[name](list(references), list(predictions), **arguments.get(name, {})) for name in self.metrics
        }


@dataclass(frozen=True)
class Evaluation:
    """Scores of one item list, the mean loss, and each item's prediction, in item order."""

    scores: dict[str, float]
    loss: float
    predictions: tuple[int | str, ...]


@torch.no_grad()
def evaluate(
    model: TaskModel, task: Task, items: Sequence[Item], *, max_frames: int, device: torch.device, dtype: torch.dtype
) -> Evaluation:
    """Score a model on items, in eval mode, in length-sorted batches of at most `max_frames` padded steps."""
    was_training = model.training
    model.eval()
    predictions: list[int | str] = [""] * len(items)
    total = 0.0
    try:
        for indices in task.score_batches(items, max_frames):
            batch = task.collate([items[i] for i in indices], None).to(device, dtype)
            scores, valid_BT = model(batch.inputs, batch.lengths)
            total += float(task.loss(scores, valid_BT, batch)) * len(indices)
            for index, prediction in zip(indices, task.predict(scores, valid_BT), strict=True):
                predictions[index] = prediction
    finally:
        model.train(was_training)
    return evaluation_of(task, items, predictions, total)


def evaluation_of(task: Task, items: Sequence[Item], predictions: Sequence[int | str], total_loss: float) -> Evaluation:
    """The evaluation of predictions, in item order, and the sum of the items' losses."""
    scored = task.score([item.reference for item in items], predictions)
    return Evaluation(scored, total_loss / len(items), tuple(predictions))
