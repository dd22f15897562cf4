"""What the tasks share whose answer is one of several classes: the head, the loss and the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from harness.data.corpus import Corpus, Example, label_of
from harness.metrics import Answer
from harness.tasks.losses import PLAIN_LOSS, class_losses, in_float32, kl_divergence
from harness.tasks.task import Batch, Item, WholeTask

if TYPE_CHECKING:
    from torch import Tensor, nn


class ClassTask(WholeTask):
    """Macro F1 (primary: the classes are uneven) and accuracy over a corpus's classes."""

    metrics = ("macro_f1", "accuracy")
    primary = "macro_f1"
    columns = ("target_macro_f1", "target_accuracy", "source_macro_f1")
    needs: ClassVar[tuple[str, ...]] = ("label",)
    pools = True

    @classmethod
    def outputs(cls, corpus: Corpus) -> tuple[str, ...]:
        return corpus.classes

    @classmethod
    def arguments(cls, outputs: Sequence[str]) -> dict[str, Any]:
        return {"num_classes": len(outputs)}

    @staticmethod
    def head(dim: int, num_symbols: int) -> nn.Module:
        from harness.backbones.model import ClassifierHead

        return ClassifierHead(dim, num_symbols)

    @staticmethod
    def reference(example: Example, outputs: Sequence[str]) -> Answer:
        label = label_of(example)
        assert label is not None, "make_task has looked for labels"
        return label

    @staticmethod
    def answer_text(answer: Answer, outputs: Sequence[str]) -> str:
        return outputs[int(answer)]

    def target(self, example: Example) -> Tensor:
        import torch

        return torch.tensor(self.reference(example, self.symbols))

    def classes_in(self, item: Item) -> list[int]:
        return [int(item.target)]

    def loss(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        if self.loss_options != PLAIN_LOSS:
            return self.loss_rows(scores, valid_BT, batch).mean()
        import torch.nn.functional as F

        return F.cross_entropy(in_float32(scores), batch.targets[:, 0])  # the mean has other last bits than its rows'

    def loss_rows(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        return class_losses(scores, batch.targets[:, 0], self.loss_options)

    def kl_rows(self, scores: Tensor, base: Tensor, valid_BT: Tensor, batch: Batch, temperature: float) -> Tensor:
        return kl_divergence(scores, base, temperature)

    def predict(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> list[Any]:
        return scores.argmax(-1).tolist()
