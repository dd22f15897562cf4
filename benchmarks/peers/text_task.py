"""Text classification: the workload's sentences as tensors, the frozen encoder with its head, and the scores.

The encoder's and the head's weights, the token ids and the labels are those that our own trials use (workload.py).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import transformers
from peer_task import CountingModel, PeerTask
from torch import Tensor, nn


def load_encoder(workload: dict[str, Any]) -> Any:
    """The pretrained encoder, with its own dropout in training or, where `no_dropout` is asked for, with none."""
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return transformers.AutoModel.from_pretrained(
        workload["encoder"], add_pooling_layer=False, **(off if workload["no_dropout"] else {})
    )


def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Pad to the longest of the batch."""
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        mask[number, : len(row["input_ids"])] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([row["labels"] for row in rows])}


class MeanClassifier(CountingModel):
    """An encoder, the mean over its real tokens, and a frozen linear head."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Loss (mean over the batch) and class scores [B, C]."""
        self.count(attention_mask)
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(hidden.dtype)
        scores = self.head((hidden * mask).sum(1) / mask.sum(1))
        return {"loss": F.cross_entropy(scores, labels), "logits": scores}


def scores_of(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy and macro-F1; a class with no label and no prediction counts as 0 (as in harness.metrics)."""
    predictions = scores.argmax(-1)
    f1 = []
    for label in range(scores.shape[-1]):
        hits = int(((predictions == label) & (labels == label)).sum())
        both = int((predictions == label).sum()) + int((labels == label).sum())
        f1.append(2 * hits / both if both else 0.0)
    return {"macro_f1": sum(f1) / len(f1), "accuracy": float((predictions == labels).float().mean())}


class TextTask(PeerTask):
    """Examples are `[token ids, label]`."""

    metrics = ("macro_f1", "accuracy")

    def encoder(self, workload: dict[str, Any]) -> Any:
        return load_encoder(workload)

    def model(self, encoder: nn.Module, head: dict[str, Any]) -> MeanClassifier:
        return MeanClassifier(encoder, head)

    def lora_place(self, encoder: Any, layers: str) -> tuple[str, int, int]:
        pattern = rf"(.*\.)?encoder\.layer\.({layers})\.output\.dense"
        return pattern, encoder.config.intermediate_size, encoder.config.hidden_size

    def rows(self, workload: dict[str, Any], examples: list[list[Any]]) -> list[dict[str, Any]]:
        return [{"input_ids": ids, "labels": label, "length": len(ids)} for ids, label in examples]

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        return collate(rows)

    def scores_of(self, workload: dict[str, Any], predictions: Tensor, labels: Tensor) -> dict[str, float]:
        return scores_of(predictions, labels)


TASK = TextTask()
