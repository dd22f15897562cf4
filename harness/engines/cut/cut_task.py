"""The task behind a cut: batches of what reached the cut, gathered from a store, instead of inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.backbones.encoders import Encoder
from harness.backbones.model import TaskModel
from harness.data.batching import pad_sequence_batch, tight_batches
from harness.data.corpus import Example
from harness.engines.cut.prefix_cache import VECTOR_STEPS, PrefixStore
from harness.tasks.task import Batch, Item, Task

BATCH_STEPS = 64  # what a batch to score costs besides its steps, in steps: 40 at 25 M weights, 150 at 0.2 M


class CutTask(Task):
    """A task whose batches start at the cut; losses, predictions and scores are those of the whole task.

    Args:
        task: the whole one.
        store: has the rows of every item that is collated.
        encoder: tells how many steps reach the cut.
    """

    def __init__(self, task: Task, store: PrefixStore, encoder: Encoder) -> None:
        self.task, self.store, self.encoder = task, store, encoder
        self.metrics, self.primary = task.metrics, task.primary

    def encode(self, examples: Sequence[Example]) -> list[Item]:
        return self.task.encode(examples)

    def collate(self, items: Sequence[Item], generator: torch.Generator | None) -> Batch:
        lengths = self.lengths(items)
        inputs = self.store.gather(self.store.rows(items), int(lengths.max()))
        targets, target_lengths = pad_sequence_batch([item.target.reshape(-1) for item in items])
        return Batch(inputs, lengths, targets, target_lengths)

    def score_batches(self, items: Sequence[Item], max_frames: int) -> list[list[int]]:
        """Batches with little padding: behind a cut most of a score's work is on padded steps otherwise."""
        lengths = self.lengths(items).tolist()
        limit = max(1, max_frames * max(lengths) // max(len(item.inputs) for item in items))  # in steps at the cut
        return tight_batches(lengths, max_frames=limit, batch_cost=BATCH_STEPS, multiple=VECTOR_STEPS)

    def lengths(self, items: Sequence[Item]) -> Tensor:
        """Real steps of each item at the cut, [B]."""
        if self.store.plan.cut.pooled:
            return torch.ones(len(items), dtype=torch.int64)
        return self.encoder.output_lengths(torch.tensor([len(item.inputs) for item in items]))

    def loss(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        return self.task.loss(scores, valid_BT, batch)

    def loss_rows(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        return self.task.loss_rows(scores, valid_BT, batch)

    def kl_rows(self, scores: Tensor, base: Tensor, valid_BT: Tensor, batch: Batch, temperature: float) -> Tensor:
        return self.task.kl_rows(scores, base, valid_BT, batch, temperature)

    def given(self, batch: Batch) -> tuple[Tensor, ...]:
        return self.task.given(batch)

    def answers(
        self, model: TaskModel, hidden_BTD: Tensor, scores: Tensor, valid_BT: Tensor, batch: Batch
    ) -> list[Any]:
        return self.task.answers(model, hidden_BTD, scores, valid_BT, batch)

    def predict(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> list[Any]:
        return self.task.predict(scores, valid_BT, batch)

    def score(self, references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
        return self.task.score(references, predictions)
