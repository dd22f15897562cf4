"""Whisper's encoder (Radford et al. 2022), run on clips as long as they are.

Whisper was trained on windows of 30 s, and its own code accepts nothing else: 25 times the work for a short clip. A
head that is trained on whole clips does not need the window. So positions are cut to the clip's length, and what lies
behind a clip in its batch is hidden from it: its output is the same in any batch.

Whisper's own decoder needs the window (without it, it repeats itself for ever): `WindowedWhisperEncoder`.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.adapters import InsertionPoint, attach_by_hook
from harness.backbones.blocks import valid_steps
from harness.backbones.encoders import NUM_STEPS, Encoder
from harness.errors import UserError


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

    @property
    def layers(self) -> nn.ModuleList:  # type: ignore[override]
        return cast(nn.ModuleList, self.model.layers)

    @property
    def end(self) -> nn.Module:
        return cast(nn.Module, self.model.layer_norm)

    def example(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn((2, 2 * NUM_STEPS, self.model.config.num_mel_bins), generator=generator)
        return inputs, torch.tensor([2 * NUM_STEPS, NUM_STEPS])

    def output_lengths(self, lengths_B: Tensor) -> Tensor:
        return (lengths_B + 1) // 2

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        x_BTD, valid_BT = self._subsample(inputs, lengths_B)
        return self._run_from(x_BTD, valid_BT, 0), valid_BT

    def forward_to(self, inputs: Tensor, lengths_B: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        if layer == self.num_layers:
            return self(inputs, lengths_B)
        x_BTD, valid_BT = self._subsample(inputs, lengths_B)
        if layer < 0:
            return x_BTD, valid_BT
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
        return self._run_from(x_BTD if layer < 0 else self.points[layer](x_BTD), valid_BT, layer + 1)

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
        if x_BTD.shape[1] > model.max_source_positions:
            raise UserError(
                f"the speech model has {model.max_source_positions} positions, and a clip has {x_BTD.shape[1]} steps; "
                f"the chunk_length in its preprocessor_config.json must be at most {model.max_source_positions / 50:g}"
            )
        x_BTD = x_BTD + model.embed_positions.weight[: x_BTD.shape[1]]
        return F.dropout(x_BTD, p=model.dropout, training=model.training), valid_BT


class WindowedWhisperEncoder(WhisperEncoder):
    """As transformers runs it: every clip in a window of 30 s, all of whose steps are real; 25 times the work.

    The layers of the decoder are insertion points, too, behind those of the encoder: the decoder is the model's head,
    which hooks them. To the encoder they are the end: what reaches them is all that it gives.
    """

    def __init__(self, model: Any, num_decoder_layers: int, notes: tuple[str, ...] = ()) -> None:
        super().__init__(model, notes)
        self.num_own_layers = len(self.points)
        self.points.extend(InsertionPoint(self.dim) for _ in range(num_decoder_layers))

    @property
    def decoder_points(self) -> tuple[InsertionPoint, ...]:
        """The insertion points of the decoder, lowest layer first."""
        return tuple(cast(InsertionPoint, point) for point in self.points[self.num_own_layers :])

    def points_told(self) -> list[InsertionPoint]:
        decoder = {id(point) for point in self.decoder_points}  # its steps are others: the head tells them
        return [point for point in super().points_told() if id(point) not in decoder]

    def output_lengths(self, lengths_B: Tensor) -> Tensor:
        return torch.full_like(lengths_B, self.model.max_source_positions)

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(*self._window(inputs, lengths_B))

    def forward_to(self, inputs: Tensor, lengths_B: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        if layer >= self.num_own_layers:
            return self(inputs, lengths_B)
        return super().forward_to(*self._window(inputs, lengths_B), layer)

    def forward_from(self, x_BTD: Tensor, valid_BT: Tensor, layer: int) -> Tensor:
        return x_BTD if layer >= self.num_own_layers else super().forward_from(x_BTD, valid_BT, layer)

    def _subsample(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        x_BTD, _ = super()._subsample(inputs, lengths_B)
        return x_BTD, torch.ones(x_BTD.shape[:2], dtype=torch.bool, device=x_BTD.device)

    def _window(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Each clip in a whole window: behind it is silence, whose features are the least ones that a clip can have."""
        num_frames = 2 * self.model.max_source_positions
        inputs = F.pad(inputs[:, :num_frames], (0, 0, 0, num_frames - inputs.shape[1]))
        real_BT1 = valid_steps(lengths_B, num_frames)[..., None]
        loudest_B11 = inputs.masked_fill(~real_BT1, -torch.inf).amax((1, 2), keepdim=True)
        # Features are (log10 of the energy + 4) / 4, at least 8 / 4 below the loudest one.
        window = torch.where(real_BT1, inputs, loudest_B11 - 2.0)
        return window, torch.full_like(lengths_B, num_frames)


def _mask(valid_BT: Tensor) -> Tensor:
    """The steps that each step may look at, [B, 1, T, T]; whole, so that no row takes another way of computing."""
    return valid_BT[:, None, None, :].expand(-1, 1, valid_BT.shape[1], -1)
