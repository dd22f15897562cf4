"""Whisper's decoder as the head of a model: it reads the encoder's states and writes tokens, one after the other.

Shape legend: B batch, T encoder steps, D width, S target tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.adapters import InsertionPoint, attach_by_hook
from harness.backbones.blocks import valid_steps


class WhisperDecoderHead(nn.Module):
    """Token scores [B, S + 1, V], given the right tokens; or tokens of its own (`greedy`).

    Args:
        decoder: transformers' WhisperDecoder; its word table gives the scores, too.
        points: the insertion points behind the decoder's layers; the encoder owns them. Their later steps are hidden.
        prompt: the tokens that every text begins with.
        end: the token that ends it.
        suppressed: tokens that are never written.
        suppressed_first: tokens that no text begins with, besides.
    """

    why_not_packed = "the decoder reads its targets one after the other"

    def __init__(
        self,
        decoder: Any,
        points: tuple[InsertionPoint, ...],
        prompt: tuple[int, ...],
        end: int,
        suppressed: tuple[int, ...],
        suppressed_first: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.prompt, self.end = prompt, end
        self.suppressed, self.suppressed_first = list(suppressed), list(suppressed_first)
        # In a tuple, which is no child: their state is the encoder's, and is to be kept once.
        self.points = points
        for layer, point in zip(decoder.layers, points, strict=True):
            attach_by_hook(layer, point)
            point.hides_later_steps = True

    @property
    def longest(self) -> int:
        """The most tokens of a text: half of the positions, as in OpenAI's own decoding."""
        return int(self.decoder.config.max_target_positions) // 2

    def forward(self, hidden_BTD: Tensor, valid_BT: Tensor, tokens_BS: Tensor, lengths_B: Tensor) -> Tensor:
        """The scores of each next token, [B, S + 1, V]: of every given one, and of the end.

        Args:
            hidden_BTD: of the encoder, over its whole window.
            valid_BT: not used: the window has no padding.
            tokens_BS: the right tokens, without prompt and end.
            lengths_B: how many of them are real.
        """
        prompt_BP = torch.tensor(self.prompt, device=tokens_BS.device).expand(len(tokens_BS), -1)
        given_BS = torch.cat([prompt_BP, tokens_BS], dim=1)
        self._tell_valid(valid_steps(lengths_B + len(self.prompt), given_BS.shape[1]))
        # A token sees only those before it, in adapters as well (`hides_later_steps`), so that the padding behind a
        # text does not reach it.
        states = self.decoder(input_ids=given_BS, encoder_hidden_states=hidden_BTD, use_cache=False)
        return self._scores(states.last_hidden_state[:, len(self.prompt) - 1 :])

    @torch.no_grad()
    def greedy(self, hidden_BTD: Tensor) -> list[list[int]]:
        """The most likely token, again and again, up to the end or to `longest` tokens; prompt and end left out."""
        num_rows = len(hidden_BTD)
        given = torch.tensor(self.prompt, device=hidden_BTD.device).expand(num_rows, -1)
        found: list[list[int]] = [[] for _ in range(num_rows)]
        is_over = torch.zeros(num_rows, dtype=torch.bool, device=hidden_BTD.device)
        cache = None
        for number in range(self.longest):
            self._tell_valid((~is_over)[:, None].expand_as(given))
            states = self.decoder(input_ids=given, encoder_hidden_states=hidden_BTD, cache=cache, use_cache=True)
            cache = states.cache
            scores_BV = self._scores(states.last_hidden_state[:, -1])
            scores_BV[:, self.suppressed + (self.suppressed_first if number == 0 else [])] = -torch.inf
            next_B = scores_BV.argmax(-1).masked_fill(is_over, self.end)
            is_over |= next_B == self.end
            if bool(is_over.all()):
                break
            for row, token in enumerate(next_B.tolist()):
                if token != self.end:
                    found[row].append(token)
            given = next_B[:, None]
        return found

    def _scores(self, states: Tensor) -> Tensor:
        return F.linear(states, self.decoder.embed_tokens.weight)

    def _tell_valid(self, valid_BS: Tensor) -> None:
        for point in self.points:
            point.valid_frames = valid_BS
