"""Speech recognition with CTC (Graves et al. 2006): a recording in, characters out, greedy decoding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from harness.data.corpus import Example, SpeechExample
from harness.errors import UserError
from harness.tasks.task import Batch, Item, WholeTask

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.backbones.model import TaskModel

BLANK = 0


class CtcTask(WholeTask):
    """Character error rate (primary) and word error rate; symbol i has index i + 1 in the scores, behind the blank."""

    reads = "speech"
    metrics = ("cer", "wer")
    primary = "cer"
    columns = ("target_cer", "target_wer", "source_cer")
    why_not_captured = "torch reads the lengths for a CTC loss on the processor"

    @classmethod
    def can_answer(cls, symbols: Sequence[str], outputs: Sequence[str]) -> bool:
        return set(outputs) <= set(symbols)

    @staticmethod
    def head(dim: int, num_symbols: int) -> nn.Module:
        from harness.backbones.model import CtcHead

        return CtcHead(dim, num_symbols)

    @staticmethod
    def reference(example: Example, outputs: Sequence[str]) -> int | str:
        assert isinstance(example, SpeechExample)
        return example.transcript

    @staticmethod
    def answer_text(answer: int | str, outputs: Sequence[str]) -> str:
        return str(answer)

    @cached_property
    def index(self) -> dict[str, int]:
        """Symbol -> index in the scores."""
        return {symbol: position + 1 for position, symbol in enumerate(self.symbols)}

    def target(self, example: Example) -> Tensor:
        import torch

        transcript = str(self.reference(example, self.symbols))
        unknown = sorted(set(transcript) - self.index.keys())
        if unknown:
            raise UserError(
                f"{example.key}: the transcript has {unknown!r}, which the backbone cannot write; "
                f"choices: {''.join(self.symbols)!r}"
            )
        return torch.tensor([self.index[symbol] for symbol in transcript])

    def can_learn(self, item: Item, model: TaskModel) -> bool:
        import torch

        symbols = item.target.tolist()
        repeats = sum(left == right for left, right in pairwise(symbols))
        num_steps = int(model.encoder.output_lengths(torch.tensor(len(item.inputs))))
        return num_steps >= len(symbols) + repeats

    def loss(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        import torch.nn.functional as F

        # Each example's loss is divided by its target length, then averaged.
        # Scoring meets clips too short for their transcript; their infinite loss counts as 0 there (training has none).
        return F.ctc_loss(
            _log_probs(scores), batch.targets, valid_BT.sum(1), batch.target_lengths, blank=BLANK, zero_infinity=True
        )

    def loss_rows(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        import torch.nn.functional as F

        num_steps = valid_BT.sum(1)
        losses = F.ctc_loss(
            _log_probs(scores),
            batch.targets,
            num_steps,
            batch.target_lengths,
            BLANK,
            reduction="none",
            zero_infinity=True,
        )
        return losses / batch.target_lengths.clamp(min=1)

    def predict(self, scores: Tensor, valid_BT: Tensor) -> list[Any]:
        import torch

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


def _log_probs(scores_BTV: Tensor) -> Tensor:
    """Log probabilities [T, B, V], in float32 at least."""
    import torch

    return scores_BTV.to(torch.promote_types(scores_BTV.dtype, torch.float32)).log_softmax(-1).transpose(0, 1)
