"""Speech recognition with CTC (Graves et al. 2006): log-mel features in, characters out, greedy decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.backbones.encoders import SpeechEncoder
from harness.backbones.model import TaskModel
from harness.data.corpus import Example, SpeechExample
from harness.errors import UserError
from harness.tasks.task import Batch, Item, Task

BLANK = 0


class CtcTask(Task):
    """Character error rate (primary) and word error rate.

    Args:
        symbols: the output alphabet without the blank; symbol i has index i + 1.
        features: examples -> one [frames, mels] tensor each.
        spec_augment: (features [B, T, mels], lengths [B], generator) -> masked features, applied in training only.
        views: (features [T, mels], key, number of the view) -> the masked features of an item that is a view.
    """

    metrics = ("cer", "wer")
    why_not_captured = "torch reads the lengths for a CTC loss on the processor"

    def __init__(
        self,
        symbols: Sequence[str],
        features: Callable[[Sequence[SpeechExample]], Sequence[Tensor]],
        spec_augment: Callable[[Tensor, Tensor, torch.Generator], Tensor] | None = None,
        views: Callable[[Tensor, str, int], Tensor] | None = None,
    ) -> None:
        self.symbols = tuple(symbols)
        self.index = {symbol: position + 1 for position, symbol in enumerate(symbols)}
        self.features = features
        self.spec_augment = spec_augment
        self.views = views

    def encode(self, examples: Sequence[Example]) -> list[Item]:
        speech = [example for example in examples if isinstance(example, SpeechExample)]
        assert len(speech) == len(examples)
        items = []
        for example, features in zip(speech, self.features(speech), strict=True):
            unknown = sorted(set(example.transcript) - self.index.keys())
            if unknown:
                raise UserError(
                    f"{example.key}: the transcript has {unknown!r}, which the backbone cannot write; "
                    f"choices: {''.join(self.symbols)!r}"
                )
            target = torch.tensor([self.index[symbol] for symbol in example.transcript])
            items.append(Item(example.key, features, target, example.transcript))
        return items

    def can_learn(self, item: Item, model: TaskModel) -> bool:
        assert isinstance(model.encoder, SpeechEncoder)
        symbols = item.target.tolist()
        repeats = sum(left == right for left, right in pairwise(symbols))
        num_steps = int(model.encoder.output_lengths(torch.tensor(len(item.inputs))))
        return num_steps >= len(symbols) + repeats

    def inputs_of(self, item: Item) -> Tensor:
        if item.view is None:
            return item.inputs
        assert self.views is not None, "a task without augmented views"
        return self.views(item.inputs, item.key, item.view)

    def augment(self, inputs: Tensor, lengths_B: Tensor, generator: torch.Generator) -> Tensor:
        return inputs if self.spec_augment is None else self.spec_augment(inputs, lengths_B, generator)

    def loss(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        # CTC needs float32 at least; each example's loss is divided by its target length, then averaged.
        # Scoring meets clips too short for their transcript; their infinite loss counts as 0 there (training has none).
        log_probs_TBV = scores.to(torch.promote_types(scores.dtype, torch.float32)).log_softmax(-1).transpose(0, 1)
        return F.ctc_loss(
            log_probs_TBV, batch.targets, valid_BT.sum(1), batch.target_lengths, blank=BLANK, zero_infinity=True
        )

    def loss_rows(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        log_probs_TBV = scores.to(torch.promote_types(scores.dtype, torch.float32)).log_softmax(-1).transpose(0, 1)
        num_steps = valid_BT.sum(1)
        losses = F.ctc_loss(
            log_probs_TBV, batch.targets, num_steps, batch.target_lengths, BLANK, reduction="none", zero_infinity=True
        )
        return losses / batch.target_lengths.clamp(min=1)

    def predict(self, scores: Tensor, valid_BT: Tensor) -> list[Any]:
        best_BT = torch.where(valid_BT, scores.argmax(-1), BLANK).tolist()
        return [self.collapse(row) for row in best_BT]

    def collapse(self, path: Sequence[int]) -> str:
        """Merge repeats, drop blanks, trim spaces."""
        symbols, previous = [], BLANK
        for index in path:
            if index not in (previous, BLANK):
                symbols.append(self.symbols[index - 1])
            previous = index
        return " ".join("".join(symbols).split())
