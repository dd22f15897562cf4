"""Encoder + output head: the model that a trial adapts.

Shape legend: B batch, T steps, D width, C classes, V output symbols (CTC blank included, at index 0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters import AdapterModelMixin
from harness.adapters.freezing import adapter_tensors
from harness.backbones.encoders import Encoder
from harness.backbones.pooling import MeanPool

HeadMaker = Callable[[int, int], nn.Module]  # (width, number of outputs) -> a fresh head


class ClassifierHead(nn.Module):
    """The mean over the real steps, or another pooling (pooling.py), then class scores [B, C]."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.pool: nn.Module = MeanPool()
        self.output = nn.Linear(dim, num_classes)

    def forward(self, hidden_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        scores_BC: Tensor = self.output(self.pool(hidden_BTD, valid_BT))
        return scores_BC


class CtcHead(nn.Module):
    """Symbol scores for each step [B, T, V]; index 0 is the CTC blank."""

    def __init__(self, dim: int, num_symbols: int) -> None:
        super().__init__()
        self.output = nn.Linear(dim, num_symbols + 1)

    def forward(self, hidden_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        scores_BTV: Tensor = self.output(hidden_BTD)
        return scores_BTV


class TaggerHead(nn.Module):
    """Tag scores for each step [B, T, V]."""

    def __init__(self, dim: int, num_tags: int) -> None:
        super().__init__()
        self.output = nn.Linear(dim, num_tags)

    def forward(self, hidden_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        scores_BTV: Tensor = self.output(hidden_BTD)
        return scores_BTV


class TaskModel(nn.Module, AdapterModelMixin):
    """A backbone with its task's head; adapters sit at the encoder's insertion points."""

    def __init__(self, encoder: Encoder, make_head: HeadMaker, num_symbols: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head: Any = make_head(encoder.dim, num_symbols)

    def forward(self, inputs: Tensor, lengths_B: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ([B, C] or [B, T, V]) and the mask [B, T] of real steps.

        Args:
            inputs: of the encoder.
            lengths_B: their real steps.
            given: what else the head reads (Task.given).
        """
        hidden_BTD, valid_BT = self.hidden(inputs, lengths_B)
        return self.head(hidden_BTD, valid_BT, *given), valid_BT

    def hidden(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """What the head reads: hidden states [B, T, D] and the mask [B, T] of real steps."""
        hidden: tuple[Tensor, Tensor] = self.encoder(inputs, lengths_B)
        return hidden

    def adapter_tensors(self) -> dict[int, str]:
        """The ids of all weights and buffers that came with adapters -> the adapter's name, "" for one of PEFT."""
        injected = self.encoder.injected
        return adapter_tensors(self) | dict.fromkeys(() if injected is None else injected.own, "")

    def learnt_with_adapters(self) -> dict[int, str]:
        """As `adapter_tensors`, with the shares of the layers on their way to the head, which learn with adapters."""
        shares = self.encoder.shares
        return self.adapter_tensors() | ({} if shares is None else dict.fromkeys(map(id, shares.parameters()), ""))

    def set_strategy_generator(self, generator: torch.Generator) -> None:
        """Let every strategy that has a `generator` draw from this one (others draw from torch's global one)."""
        for point in self.encoder.insertion_points.values():
            for adapter in (point.adapter_layer or {}).values() if point.is_adapter_available() else ():
                if hasattr(adapter.adapter_strategy, "generator"):
                    adapter.adapter_strategy.generator = generator

    def set_training_progress(self, progress: float) -> None:
        """Tell every insertion point which share of the training is done (for schedules)."""
        for point in self.encoder.insertion_points.values():
            point.training_progress = progress
