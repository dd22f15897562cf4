"""From the hidden states of a text or recording to one vector: what a head answers from.

Real steps lie in front of the padding. Every form works row by row, and gives for one step that step.

Shape legend: B batch, T steps, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.backbones.encoders import masked_mean


class MeanPool(nn.Module):
    """The mean over the real steps."""

    def forward(self, hidden_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        return masked_mean(hidden_BTD, valid_BT)


class FirstPool(nn.Module):
    """The first step: the token [CLS] of BERT and its kind."""

    def forward(self, hidden_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        return hidden_BTD[:, 0]


class LastPool(nn.Module):
    """The last real step, which alone has seen the whole text in a model that reads from left to right."""

    def forward(self, hidden_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        last_B = (valid_BT.sum(1) - 1).clamp(min=0)
        return hidden_BTD.gather(1, last_B[:, None, None].expand(-1, 1, hidden_BTD.shape[-1]))[:, 0]


class AttentionPool(nn.Module):
    """A mean weighted by softmax(x . q / sqrt(D)), with a learnt query q; it begins as the plain mean (q = 0).

    Source: Yang et al. (2016), Hierarchical Attention Networks, with a linear score.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(dim))

    def forward(self, hidden_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        real_BTD = hidden_BTD.where(valid_BT[..., None], 0.0)
        # A product and a sum rather than a matrix product: the bits of a row do not depend on the rows beside it.
        scores_BT = (real_BTD * self.query).sum(-1) / math.sqrt(hidden_BTD.shape[-1])
        least = torch.finfo(scores_BT.dtype).min
        weights_BT = scores_BT.masked_fill(~valid_BT, least).softmax(-1).where(valid_BT, 0.0)
        return (weights_BT[..., None] * real_BTD).sum(1)


POOLINGS: dict[str, Callable[[int], nn.Module]] = {
    "mean": lambda dim: MeanPool(),
    "first": lambda dim: FirstPool(),
    "last": lambda dim: LastPool(),
    "attention": AttentionPool,
}
