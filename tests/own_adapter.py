"""Adapters of a user's own, named in configs as `own_adapter.Wider`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from harness.adapters import AdapterModuleUtil, LinearAdapter, functional
from harness.adapters.packed import PackedAdapter


class Wider(LinearAdapter):
    """A subclass: it inherits no packed form."""


class Counting(LinearAdapter):
    """A packed form, but a buffer that a pack does not hold."""

    packed_form = LinearAdapter.packed_form

    def __init__(self, in_features: int, dim: int, adapter_strategy: Any = None) -> None:
        super().__init__(in_features, dim, adapter_strategy=adapter_strategy)
        self.register_buffer("seen", torch.zeros(1))


class HalfFrozen(LinearAdapter):
    """A packed form, but a weight that does not learn."""

    packed_form = LinearAdapter.packed_form

    def adapter_unfreeze(self) -> None:
        super().adapter_unfreeze()
        self.module[1].weight.requires_grad_(False)


@dataclass(frozen=True)
class PackedGain(PackedAdapter):
    """A form without fields, though the weight's shape is an option."""

    @classmethod
    def of(cls, adapter: Gain) -> Self:
        return cls()

    def run(self, weights: Mapping[str, Tensor], x_KBTD: Tensor) -> Tensor:
        return x_KBTD.tanh() * functional.align_features(weights["gain"], x_KBTD)


class Gain(nn.Module, AdapterModuleUtil):
    """One number for all features, or one each."""

    packed_form = PackedGain

    def __init__(self, in_features: int, each: bool = True, adapter_strategy: Any = None) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(in_features if each else 1))
        self.setup_adapter_strategy(adapter_strategy)

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh() * self.gain
