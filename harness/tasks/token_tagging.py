"""Token tagging: words in, a tag for each of them out (names, parts of speech).

The first piece of a word carries its tag, as in BERT (Devlin et al. 2019). Words that the model does not see, because
the text is cut or nothing of the word is left in the vocabulary, are answered O, so that every word is scored.

Shape legend: B batch, T steps (pieces), W words, V tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.data.corpus import Example, TextExample
from harness.metrics import Answer
from harness.metrics.spans import OUTSIDE
from harness.tasks.losses import class_losses, mean_kl
from harness.tasks.task import Batch, Item, WholeTask

if TYPE_CHECKING:
    from torch import Tensor, nn

UNSEEN = -1  # the place of a word without a piece


class TaggingTask(WholeTask):
    """F1 of spans (primary) and the share of right tags; the loss is a sentence's mean over its words.

    The target of a word is one number: place of its first piece * V + its tag, or -1 where it has no piece.
    """

    reads = "text"
    metrics = ("span_f1", "tag_accuracy")
    primary = "span_f1"
    columns = ("target_span_f1", "target_tag_accuracy", "source_span_f1")
    needs = ("tags",)

    @staticmethod
    def head(dim: int, num_symbols: int) -> nn.Module:
        from harness.backbones.model import TaggerHead

        return TaggerHead(dim, num_symbols)

    @staticmethod
    def reference(example: Example, outputs: Sequence[str]) -> Answer:
        assert isinstance(example, TextExample)
        return " ".join(example.tags)

    @staticmethod
    def answer_text(answer: Answer, outputs: Sequence[str]) -> str:
        return str(answer)

    def target(self, example: Example) -> Tensor:
        import torch

        assert isinstance(example, TextExample)
        places = self.inputs.word_places(example)
        numbers = {tag: number for number, tag in enumerate(self.symbols)}
        return torch.tensor(
            [
                UNSEEN if place is None else place * len(self.symbols) + numbers[tag]
                for place, tag in zip(places, example.tags, strict=True)
            ]
        )

    def classes_in(self, item: Item) -> list[int]:
        return [number % len(self.symbols) for number in item.target.tolist() if number != UNSEEN]

    def loss(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        return self.loss_rows(scores, valid_BT, batch).mean()

    def loss_rows(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        places_BW, tags_BW, seen_BW = self._words(batch)
        scores_BWV = _at(scores, places_BW)
        losses_BW = class_losses(scores_BWV.flatten(0, 1), tags_BW.flatten(), self.loss_options).view_as(seen_BW)
        return losses_BW.where(seen_BW, 0.0).sum(1) / seen_BW.sum(1).clamp(min=1)

    def kl_rows(self, scores: Tensor, base: Tensor, valid_BT: Tensor, batch: Batch, temperature: float) -> Tensor:
        places_BW, _, seen_BW = self._words(batch)
        return mean_kl(_at(scores, places_BW), _at(base, places_BW), seen_BW, temperature)

    def predict(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> list[Any]:
        places_BW, _, seen_BW = self._words(batch)
        best_BW = _at(scores, places_BW).argmax(-1).tolist()
        rows = zip(best_BW, seen_BW.tolist(), batch.target_lengths.tolist(), strict=True)
        return [
            " ".join(self.symbols[tag] if is_seen else OUTSIDE for tag, is_seen in zip(best[:n], seen[:n], strict=True))
            for best, seen, n in rows
        ]

    def _words(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The places of the words, their tags, and which of them are seen, [B, W] each."""
        import torch

        targets_BW = batch.targets
        is_word_BW = torch.arange(targets_BW.shape[1], device=targets_BW.device) < batch.target_lengths[:, None]
        seen_BW = is_word_BW & (targets_BW != UNSEEN)
        known_BW = targets_BW.clamp(min=0)
        return known_BW // len(self.symbols), known_BW % len(self.symbols), seen_BW


def _at(scores_BTV: Tensor, places_BW: Tensor) -> Tensor:
    """The scores at some places, [B, W, V]."""
    return scores_BTV.gather(1, places_BW[..., None].expand(-1, -1, scores_BTV.shape[-1]))
