"""Whisper's encoder (Radford et al. 2022), run on clips as long as they are.

Whisper was trained on windows of 30 s, and its own code accepts nothing else: 25 times the work for a short clip. A
head that is trained on whole clips does not need the window. So positions are cut to the clip's length, and what lies
behind a clip in its batch is hidden from it: its output is the same in any batch.
"""

from __future__ import annotations

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from harness.adapters import InsertionPoint, attach_by_hook
from harness.backbones.blocks import valid_steps
from harness.backbones.encoders import Encoder


class WhisperEncoder(Encoder):
    """Log-mel features [B, frames, mels] in, hidden states [B, ceil(frames / 2), D] out, 50 a second.

    Args:
        model: transformers' WhisperEncoder.
        notes: what a record must tell of the weights.
    """

    def __init__(self, model: Any, notes: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.model = model
        self.dim = int(model.config.d_model)
        self.notes = notes
        self.points = nn.ModuleList(InsertionPoint(self.dim) for _ in model.layers)
        for layer, point in zip(model.layers, self.points, strict=True):
            attach_by_hook(layer, cast(InsertionPoint, point))

    def output_lengths(self, lengths_B: Tensor) -> Tensor:
        return (lengths_B + 1) // 2

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        x_BTD, valid_BT = self._subsample(inputs, lengths_B)
        return self._run_from(x_BTD, valid_BT, 0), valid_BT

    def forward_to(self, inputs: Tensor, lengths_B: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        if layer == self.num_layers:
            return self(inputs, lengths_B)
        x_BTD, valid_BT = self._subsample(inputs, lengths_B)
        mask = _mask(valid_BT)
        layers: Any = self.model.layers
        for block in layers[:layer]:
            x_BTD = block(x_BTD, mask)
        # `forward` of a module runs its body without its hooks, which are the insertion point.
        return layers[layer].forward(x_BTD, mask), valid_BT

    def forward_from(self, x_BTD: Tensor, valid_BT: Tensor, layer: int) -> Tensor:
        if layer == self.num_layers:
            return x_BTD
        self.tell_valid(valid_BT)
        return self._run_from(self.points[layer](x_BTD), valid_BT, layer + 1)

    def _run_from(self, x_BTD: Tensor, valid_BT: Tensor, first: int) -> Tensor:
        mask = _mask(valid_BT)
        for block in self.model.layers[first:]:
            x_BTD = block(x_BTD, mask)
        hidden_BTD: Tensor = self.model.layer_norm(x_BTD)
        return hidden_BTD

    def _subsample(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """The two convolutions and the positions: [B, frames, mels] -> [B, T, D], and the mask [B, T] of real steps."""
        model = self.model
        real_BT = valid_steps(lengths_B, inputs.shape[1])[:, None, :]
        # Zeros behind a clip, in front of each convolution, are what a convolution sees behind the clip alone.
        x_BDT = F.gelu(model.conv1(inputs.transpose(1, 2).masked_fill(~real_BT, 0.0)))
        x_BTD = F.gelu(model.conv2(x_BDT.masked_fill(~real_BT, 0.0))).transpose(1, 2)
        valid_BT = valid_steps(self.output_lengths(lengths_B), x_BTD.shape[1])
        self.tell_valid(valid_BT)
        x_BTD = x_BTD + model.embed_positions.weight[: x_BTD.shape[1]]
        return F.dropout(x_BTD, p=model.dropout, training=model.training), valid_BT


def _mask(valid_BT: Tensor) -> Tensor:
    """The steps that each step may look at, [B, 1, T, T]; whole, so that no row takes another way of computing."""
    return valid_BT[:, None, None, :].expand(-1, 1, valid_BT.shape[1], -1)
