"""Text classification: word pieces in, one class out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.corpus import Example, TextExample
from harness.tasks.task import Batch, Item, Task


class ClassificationTask(Task):
    """Macro-F1 (primary: the classes are uneven) and accuracy over a corpus's classes.

    Args:
        tokenizer: a `tokenizers.Tokenizer` (or anything whose `encode(text).ids` gives token ids).
        classes: class names; an example's label is an index into them.
        max_length: longer token sequences are cut.
    """

    metrics = ("macro_f1", "accuracy")

    def __init__(self, tokenizer: Any, classes: Sequence[str], max_length: int) -> None:
        self.tokenizer = tokenizer
        self.classes = tuple(classes)
        self.max_length = max_length

    def score_arguments(self) -> dict[str, dict[str, int]]:
        return {"macro_f1": {"num_classes": len(self.classes)}}

    def encode(self, examples: Sequence[Example]) -> list[Item]:
        items = []
        for example in examples:
            assert isinstance(example, TextExample)
            ids = self.tokenizer.encode(example.text).ids[: self.max_length] or [0]
            items.append(Item(example.key, torch.tensor(ids), torch.tensor(example.label), example.label))
        return items

    def loss(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(_in_float32(scores), batch.targets[:, 0])

    def loss_rows(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(_in_float32(scores), batch.targets[:, 0], reduction="none")

    def predict(self, scores: Tensor, valid_BT: Tensor) -> list[Any]:
        return scores.argmax(-1).tolist()


def _in_float32(scores: Tensor) -> Tensor:
    """In float32 at least: a bfloat16 loss has three digits."""
    return scores.float() if scores.dtype == torch.bfloat16 else scores
