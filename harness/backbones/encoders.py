"""The two small encoders: text (tokens in) and speech (log-mel frames in), both ending in [B, T, D] hidden states.

An encoder names its insertion points in order, lowest layer first, and before each forward pass tells them which
steps are real (`valid_frames`), so that a strategy can average over valid frames.

It can also be run in two parts: `forward_to` a layer's insertion point, and `forward_from` there. What comes before the
first adapter never changes, so its output can be kept (harness/engines/cut/prefix_cache.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.adapters import InsertionPoint
from harness.backbones.blocks import ConformerBlock, TransformerBlock, valid_steps


class Encoder(nn.Module, ABC):
    """What every backbone encoder offers: a width, named insertion points, and a masked forward pass."""

    dim: int
    notes: tuple[str, ...] = ()
    """What a record must tell of it."""
    mixes_rows: bool | None = False
    """Whether it multiplies all rows of a batch at once, so that a row's bits depend on the others; None: try it."""

    @property
    def insertion_points(self) -> dict[str, InsertionPoint]:
        """Name -> host of adapters, lowest layer first."""
        return dict(self._points)

    @cached_property
    def _points(self) -> dict[str, InsertionPoint]:
        """The points, found once by walking over the modules. A deep copy of the encoder copies these along."""
        return {name: module for name, module in self.named_modules() if isinstance(module, InsertionPoint)}

    def tell_valid(self, valid_BT: Tensor) -> None:
        """Tell each insertion point which steps are real."""
        for point in self.insertion_points.values():
            point.valid_frames = valid_BT

    @property
    def num_layers(self) -> int:
        """How many blocks, and so insertion points, it has."""
        return len(self.insertion_points)

    def output_lengths(self, lengths_B: Tensor) -> Tensor:
        """Number of output steps for each number of input steps."""
        return lengths_B

    @abstractmethod
    def forward(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states [B, T, D] and the mask [B, T] of real steps; `lengths_B` counts the input steps."""

    @abstractmethod
    def forward_to(self, inputs: Tensor, lengths_B: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """What reaches the insertion point of `layer`, [B, T, D], and the mask [B, T] of real steps.

        Args:
            inputs: as for `forward`.
            lengths_B: as for `forward`.
            layer: from 0; the number of layers stands for the end, and gives what `forward` gives.
        """

    @abstractmethod
    def forward_from(self, x_BTD: Tensor, valid_BT: Tensor, layer: int) -> Tensor:
        """Run the insertion point of `layer` and all that follows; returns the hidden states [B, T, D].

        Args:
            x_BTD: what `forward_to` gave for the same layer.
            valid_BT: the mask of real steps.
            layer: as for `forward_to`.
        """


class TextEncoder(Encoder):
    """Token embeddings and pre-norm Transformer blocks; inputs are token ids [B, T]."""

    def __init__(
        self, vocab_size: int, dim: int, num_layers: int, num_heads: int, hidden: int, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.dim = dim
        self.embedding = nn.Embedding(vocab_size, dim)
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(TransformerBlock(dim, num_heads, hidden, dropout) for _ in range(num_layers))
        self.final_norm = nn.LayerNorm(dim)

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        valid_BT = valid_steps(lengths_B, inputs.shape[1])
        self.tell_valid(valid_BT)
        x_BTD = self.drop(self.embedding(inputs))
        for layer in self.layers:
            x_BTD = layer(x_BTD, valid_BT)
        return self.final_norm(x_BTD), valid_BT

    def forward_to(self, inputs: Tensor, lengths_B: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        valid_BT = valid_steps(lengths_B, inputs.shape[1])
        self.tell_valid(valid_BT)
        return _run_to(self.layers, self.final_norm, self.drop(self.embedding(inputs)), valid_BT, layer), valid_BT

    def forward_from(self, x_BTD: Tensor, valid_BT: Tensor, layer: int) -> Tensor:
        self.tell_valid(valid_BT)
        return _run_from(self.layers, self.final_norm, x_BTD, valid_BT, layer)


class SpeechEncoder(Encoder):
    """Two strided convolutions over log-mel frames, then Conformer (or Transformer, kernel 0) blocks.

    Inputs are features [B, frames, mels]; the output has `ceil(ceil(frames / 2) / stride2)` steps.
    """

    def __init__(
        self,
        num_mels: int,
        dim: int,
        num_layers: int,
        num_heads: int,
        hidden: int,
        kernel: int = 15,
        dropout: float = 0.1,
        second_stride: int = 2,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.second_stride = second_stride
        self.first_conv = nn.Conv1d(num_mels, dim, 5, stride=2, padding=2)
        self.second_conv = nn.Conv1d(dim, dim, 5, stride=second_stride, padding=2)
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            ConformerBlock(dim, num_heads, hidden, dropout, kernel)
            if kernel
            else TransformerBlock(dim, num_heads, hidden, dropout)
            for _ in range(num_layers)
        )
        self.final_norm = nn.LayerNorm(dim)

    def output_lengths(self, lengths_B: Tensor) -> Tensor:
        """Number of output steps for each number of input frames."""
        halved = (lengths_B + 1) // 2
        return (halved + self.second_stride - 1) // self.second_stride

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        x_BTD, valid_BT = self._subsample(inputs, lengths_B)
        for layer in self.layers:
            x_BTD = layer(x_BTD, valid_BT)
        return self.final_norm(x_BTD), valid_BT

    def forward_to(self, inputs: Tensor, lengths_B: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        x_BTD, valid_BT = self._subsample(inputs, lengths_B)
        return _run_to(self.layers, self.final_norm, x_BTD, valid_BT, layer), valid_BT

    def forward_from(self, x_BTD: Tensor, valid_BT: Tensor, layer: int) -> Tensor:
        self.tell_valid(valid_BT)
        return _run_from(self.layers, self.final_norm, x_BTD, valid_BT, layer)

    def _subsample(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """The two convolutions: [B, frames, mels] -> [B, T, D], and the mask [B, T] of real steps."""
        # Padded frames are zeroed between the convolutions, so that a clip gives the same output in any batch.
        first_BDT = F.silu(self.first_conv(inputs.transpose(1, 2)))
        first_valid = valid_steps((lengths_B + 1) // 2, first_BDT.shape[2])
        first_BDT = first_BDT.masked_fill(~first_valid[:, None, :], 0.0)
        x_BTD = F.silu(self.second_conv(first_BDT)).transpose(1, 2)
        valid_BT = valid_steps(self.output_lengths(lengths_B), x_BTD.shape[1])
        self.tell_valid(valid_BT)
        return self.drop(x_BTD), valid_BT


def _run_to(layers: nn.ModuleList, end: nn.Module, x_BTD: Tensor, valid_BT: Tensor, layer: int) -> Tensor:
    for block in layers[:layer]:
        x_BTD = block(x_BTD, valid_BT)
    last: Any = layers[layer] if layer < len(layers) else None
    return end(x_BTD) if last is None else last.body(x_BTD, valid_BT)


def _run_from(layers: nn.ModuleList, end: nn.Module, x_BTD: Tensor, valid_BT: Tensor, layer: int) -> Tensor:
    if layer == len(layers):
        return x_BTD
    first: Any = layers[layer]
    x_BTD = first.insertion(x_BTD)
    for block in layers[layer + 1 :]:
        x_BTD = block(x_BTD, valid_BT)
    return end(x_BTD)


def masked_mean(hidden_BTD: Tensor, valid_BT: Tensor) -> Tensor:
    """Mean over the real steps: [B, D]."""
    weights_BT1 = valid_BT[..., None].to(hidden_BTD.dtype)
    return torch.where(valid_BT[..., None], hidden_BTD, 0.0).sum(1) / weights_BT1.sum(1).clamp(min=1.0)
