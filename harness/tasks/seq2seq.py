"""Speech recognition with an encoder and a decoder (Whisper): a recording in, tokens out, greedy decoding.

The decoder writes text as it was trained to, with capitals and stops; the recipe's normaliser (`text.normaliser`) is
used on its answers as it was on the transcripts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.data.corpus import Corpus, Example
from harness.tasks.losses import mean_kl
from harness.tasks.task import Batch, Item
from harness.tasks.transcripts import TranscriptTask

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.backbones.model import TaskModel

SCORED_TOGETHER = 8  # clips: each is a whole window of 30 s


class Seq2SeqTask(TranscriptTask):
    """Word error rate (primary: it is what recognisers are compared by) and character error rate."""

    metrics = ("wer", "cer")
    primary = "wer"
    columns = ("target_wer", "target_cer", "source_wer")
    text_keys = ("normaliser",)
    why_not_captured = "a decoder's targets differ in length from step to step"

    @classmethod
    def outputs(cls, corpus: Corpus) -> tuple[str, ...]:
        return ()  # its tokens are the pretrained decoder's, whatever the corpus is written in

    @staticmethod
    def head(dim: int, num_symbols: int) -> nn.Module:
        raise AssertionError("the head of a seq2seq model is its own decoder (harness/backbones/speech_models.py)")

    def target(self, example: Example) -> Tensor:
        import torch

        text = self.reference(example, ())
        # Whisper's words begin with a space, the first one, too.
        ids = self.inputs.tokenizer.encode(f" {text}", add_special_tokens=False).ids
        return torch.tensor(ids, dtype=torch.int64)

    def score_batches(self, items: Sequence[Item], max_frames: int) -> list[list[int]]:
        from harness.data.batching import bucketed_batches

        return bucketed_batches([len(item.target) for item in items], batch_size=SCORED_TOGETHER, generator=None)

    def given(self, batch: Batch) -> tuple[Tensor, ...]:
        return batch.targets, batch.target_lengths

    def loss(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        return self.loss_rows(scores, valid_BT, batch).mean()

    def loss_rows(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        """Cross entropy of the tokens and of the end, each example's mean over them, [B]."""
        import torch
        import torch.nn.functional as F

        from harness.backbones.blocks import valid_steps

        end = self.inputs.tokenizer.token_to_id("<|endoftext|>")
        num_steps = scores.shape[1]
        # Behind each text comes the end; what is behind that counts nothing.
        wanted_BS = F.pad(batch.targets, (0, num_steps - batch.targets.shape[1]), value=end)
        wanted_BS = torch.where(valid_steps(batch.target_lengths, num_steps), wanted_BS, end)
        real_BS = valid_steps(batch.target_lengths + 1, num_steps)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        losses_BS = F.cross_entropy(scores.transpose(1, 2), wanted_BS, reduction="none")
        return torch.where(real_BS, losses_BS, 0.0).sum(1) / real_BS.sum(1)

    def kl_rows(self, scores: Tensor, base: Tensor, valid_BT: Tensor, batch: Batch, temperature: float) -> Tensor:
        from harness.backbones.blocks import valid_steps

        real_BS = valid_steps(batch.target_lengths + 1, scores.shape[1])  # the tokens and the end, as the loss
        return mean_kl(scores, base, real_BS, temperature)

    def answers(
        self, model: TaskModel, hidden_BTD: Tensor, scores: Tensor, valid_BT: Tensor, batch: Batch
    ) -> list[Any]:
        decode = self.inputs.tokenizer.decode
        return [self.normaliser.normalise(decode(ids)) for ids in model.head.greedy(hidden_BTD)]

    def predict(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> list[Any]:
        raise AssertionError("a decoder's answers are no function of the scores of the right tokens; see `answers`")
