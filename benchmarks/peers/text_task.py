"""What all peers share: the workload's examples as tensors, the frozen encoder with its head, and the scores.

The encoder's and the head's weights, the token ids and the labels are those that our own trials use (workload.py).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def read_workload(path: str) -> dict[str, Any]:
    """The fixed list of trials with everything that they train on."""
    content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return content


def load_encoder(workload: dict[str, Any]) -> Any:
    """The pretrained encoder, with its own dropout in training or, where `no_dropout` is asked for, with none."""
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return transformers.AutoModel.from_pretrained(
        workload["encoder"], add_pooling_layer=False, **(off if workload["no_dropout"] else {})
    )


class Examples(torch.utils.data.Dataset[dict[str, Any]]):
    """Token ids and labels; the lengths serve a sampler that groups by length."""

    column_names = ("input_ids", "labels", "length")

    def __init__(self, rows: list[list[Any]], sort: bool = False) -> None:
        self.rows = sorted(rows, key=lambda row: len(row[0])) if sort else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            return [self._row(row)[index] for row in self.rows]
        return self._row(self.rows[index])

    @staticmethod
    def _row(row: list[Any]) -> dict[str, Any]:
        return {"input_ids": row[0], "labels": row[1], "length": len(row[0])}


def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Pad to the longest of the batch."""
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        mask[number, : len(row["input_ids"])] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([row["labels"] for row in rows])}


class MeanClassifier(nn.Module):
    """An encoder, the mean over its real tokens, and a frozen linear head; gives loss and scores as Trainer wants.

    Counts the tokens that it is trained on, with padding and without.
    """

    def __init__(self, encoder: nn.Module, head: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = encoder
        weight = torch.tensor(head["weight"])
        self.head = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(torch.tensor(head["bias"]))
        self.head.requires_grad_(False)
        self.padded_tokens = self.real_tokens = 0

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Loss (mean over the batch) and class scores [B, C]."""
        if self.training:
            self.padded_tokens += attention_mask.numel()
            self.real_tokens += int(attention_mask.sum())
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
