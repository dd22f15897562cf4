"""What a peer must know of a race's task, by the name in the workload: the model to adapt, its batches, its scores."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from torch import Tensor, nn

transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def read_workload(path: str) -> dict[str, Any]:
    """The fixed list of trials with everything that they train on."""
    content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return content


def task_of(workload: dict[str, Any]) -> PeerTask:
    """The task of a workload: `TASK` of the module `NAME_task`."""
    task: PeerTask = import_module(f"{workload['task']}_task").TASK
    return task


class Examples(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows as the collator wants them; their column `length` serves a sampler that groups by length.

    Args:
        rows: of the workload, made ready by the task.
        sort: by length, for scoring.
    """

    def __init__(self, rows: list[dict[str, Any]], sort: bool = False) -> None:
        self.rows = sorted(rows, key=lambda row: int(row["length"])) if sort else rows
        self.column_names = tuple(rows[0])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return [row[index] for row in self.rows] if isinstance(index, str) else self.rows[index]


class PeerTask(ABC):
    """One task, for programs that know nothing of the harness.

    Attributes:
        metrics: the names of its scores.
    """

    metrics: tuple[str, ...]

    @abstractmethod
    def encoder(self, workload: dict[str, Any]) -> Any:
        """The pretrained encoder, with its own dropout in training or, where `no_dropout` is asked for, with none."""

    @abstractmethod
    def model(self, encoder: nn.Module, head: dict[str, Any]) -> CountingModel:
        """The encoder with the workload's frozen head."""

    @abstractmethod
    def lora_place(self, encoder: Any, layers: str) -> tuple[str, int, int]:
        """Of some layers (as `2|3`), a pattern for their last feed-forward weight; its width in and out."""

    @abstractmethod
    def rows(self, workload: dict[str, Any], examples: list[list[Any]]) -> list[dict[str, Any]]:
        """The workload's examples as rows of `Examples`."""

    @abstractmethod
    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """A batch, padded to its longest row."""

    def predict(self, scores: Tensor, labels: Tensor) -> Tensor:
        """What is kept of a batch's scores: all of them, by default."""
        return scores

    @abstractmethod
    def scores_of(self, workload: dict[str, Any], predictions: Tensor, labels: Tensor) -> dict[str, float]:
        """The metrics; predictions and labels of several batches are padded with -100 to one length."""


class CountingModel(nn.Module):
    """An encoder and a frozen linear head; gives loss and scores as Trainer wants.

    Counts the steps (tokens of a text) that it is trained on, with padding and without.
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

    def count(self, valid_BT: Tensor) -> None:
        """Count a batch with so many real steps, in training."""
        if self.training:
            self.padded_tokens += valid_BT.numel()
            self.real_tokens += int(valid_BT.sum())
