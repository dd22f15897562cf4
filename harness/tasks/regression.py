"""Regression: a text or two in, a number out (a rating, how similar two sentences are)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.config.trial import KlSettings
from harness.data.corpus import Corpus, Example, TextExample
from harness.errors import UserError
from harness.metrics import Answer
from harness.tasks.losses import in_float32
from harness.tasks.task import Batch, WholeTask

if TYPE_CHECKING:
    from torch import Tensor, nn


class RegressionTask(WholeTask):
    """Pearson's r (primary), Spearman's, and the mean absolute error; the loss is the squared error."""

    reads = "text"
    metrics = ("pearson", "spearman", "mae")
    primary = "pearson"
    columns = ("target_pearson", "target_mae", "source_pearson")
    needs = ("value",)
    pools = True

    @classmethod
    def outputs(cls, corpus: Corpus) -> tuple[str, ...]:
        return ()  # a number is none of a list

    @staticmethod
    def head(dim: int, num_symbols: int) -> nn.Module:
        from harness.backbones.model import ClassifierHead

        return ClassifierHead(dim, 1)

    @staticmethod
    def reference(example: Example, outputs: Sequence[str]) -> Answer:
        assert isinstance(example, TextExample) and example.value is not None, "make_task has looked for numbers"
        return example.value

    @staticmethod
    def answer_text(answer: Answer, outputs: Sequence[str]) -> str:
        return f"{float(answer):.3g}"

    def target(self, example: Example) -> Tensor:
        import torch

        return torch.tensor(self.reference(example, self.symbols), dtype=torch.float64)

    def loss(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        return self.loss_rows(scores, valid_BT, batch).mean()

    def loss_rows(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        scores = in_float32(scores)
        return (scores[:, 0] - batch.targets[:, 0].to(scores.dtype)).square()

    def kl_rows(self, scores: Tensor, base: Tensor, valid_BT: Tensor, batch: Batch, temperature: float) -> Tensor:
        """KL between normal distributions of variance 1 around the two numbers: half their squared difference."""
        return (in_float32(scores) - in_float32(base))[:, 0].square() / 2

    def check_kl(self, settings: KlSettings) -> None:
        if settings.temperature != 1.0:
            raise UserError(
                f"loop.kl_to_base.temperature: {settings.temperature}: a regression's answers are no classes, so there "
                "is nothing to soften; leave it out"
            )

    def predict(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> list[Any]:
        return scores[:, 0].tolist()
