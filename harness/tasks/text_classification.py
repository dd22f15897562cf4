"""Text classification: a sentence in, one class out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.data.corpus import Example, TextExample
from harness.tasks.task import Batch, WholeTask

if TYPE_CHECKING:
    from torch import Tensor, nn


class ClassificationTask(WholeTask):
    """Macro F1 (primary: the classes are uneven) and accuracy over a corpus's classes."""

    reads = "text"
    metrics = ("macro_f1", "accuracy")
    primary = "macro_f1"
    columns = ("target_macro_f1", "target_accuracy", "source_macro_f1")

    @classmethod
    def arguments(cls, outputs: Sequence[str]) -> dict[str, Any]:
        return {"num_classes": len(outputs)}

    @staticmethod
    def head(dim: int, num_symbols: int) -> nn.Module:
        from harness.backbones.model import ClassifierHead

        return ClassifierHead(dim, num_symbols)

    @staticmethod
    def reference(example: Example, outputs: Sequence[str]) -> int | str:
        assert isinstance(example, TextExample)
        return example.label

    @staticmethod
    def answer_text(answer: int | str, outputs: Sequence[str]) -> str:
        return outputs[int(answer)]

    def target(self, example: Example) -> Tensor:
        import torch

        return torch.tensor(self.reference(example, self.symbols))

    def loss(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        import torch.nn.functional as F

        return F.cross_entropy(_in_float32(scores), batch.targets[:, 0])

    def loss_rows(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        import torch.nn.functional as F

        return F.cross_entropy(_in_float32(scores), batch.targets[:, 0], reduction="none")

    def predict(self, scores: Tensor, valid_BT: Tensor) -> list[Any]:
        return scores.argmax(-1).tolist()


def _in_float32(scores: Tensor) -> Tensor:
    """The scores in float32 at least, because a bfloat16 loss would have only three digits."""
    import torch

    return scores.float() if scores.dtype == torch.bfloat16 else scores
