"""Adapters of one vector: IA3 scales each feature, BitFit shifts it. Parameters: D each.

    IA3      x + x * scale = x * l, l = 1 + scale     (IA)^3, Liu et al. 2022, arXiv 2205.05638
    BitFit   x + shift                                Ben Zaken et al. 2022, arXiv 2106.10199

Both are written as what residual add adds to its input, 0 at first. So dropping an output in stochastic depth gives the
model without it, and weight decay and the l2 penalty pull to the frozen model: l to 1, and a bias to what it was.

(IA)^3 goes behind the keys and the values, and before the last linear module of the feed-forward part, and never beside
a module: with W x + b what a module gives, it would be W x + b + x * scale there, which rescales nothing. BitFit behind
each module that has a bias learns what training that bias would, step for step: d loss / d shift = d loss / d bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from harness.adapters import functional
from harness.adapters.linear import AdapterModuleUtil, check_sizes
from harness.adapters.packed import PackedAdapter
from harness.adapters.strategies import ResidualAddAdapterStrategyConfig
from harness.instantiate import target_of


@dataclass(frozen=True)
class PackedIA3(PackedAdapter):
    """IA3 of K trials at once."""

    @classmethod
    def of(cls, adapter: IA3) -> Self:
        """See PackedAdapter."""
        return cls()

    def run(self, weights: Mapping[str, Tensor], x_KBTD: Tensor) -> Tensor:
        """See PackedAdapter."""
        return x_KBTD * functional.align_features(weights["scale"], x_KBTD)


class IA3(nn.Module, AdapterModuleUtil):
    """Rescale each feature; with residual add the result is x * (1 + scale).

    Args:
        in_features: D.
        adapter_strategy: how the output is merged; config or object, residual add if None.

    Raises:
        ValueError: a width below 1.
    """

    packed_form = PackedIA3
    rescales = True

    def __init__(self, in_features: int, adapter_strategy: Any = None) -> None:
        super().__init__()
        check_sizes(in_features=in_features)
        self.scale = nn.Parameter(torch.zeros(in_features))
        self.setup_adapter_strategy(adapter_strategy)

    def reads_padding(self, training: bool) -> bool:
        """See AdapterModuleUtil: each step is computed by itself."""
        return False

    def forward(self, x: Tensor) -> Tensor:
        """Return x * scale, [..., D]."""
        return x * self.scale


@dataclass
class IA3Config:
    """Config of IA3; fields as its arguments."""

    in_features: int
    adapter_strategy: Any | None = field(default_factory=ResidualAddAdapterStrategyConfig)
    _target_: str = target_of(IA3)


@dataclass(frozen=True)
class PackedBitFit(PackedAdapter):
    """BitFit of K trials at once."""

    @classmethod
    def of(cls, adapter: BitFit) -> Self:
        """See PackedAdapter."""
        return cls()

    def run(self, weights: Mapping[str, Tensor], x_KBTD: Tensor) -> Tensor:
        """See PackedAdapter."""
        return functional.align_features(weights["shift"], x_KBTD).expand_as(x_KBTD)


class BitFit(nn.Module, AdapterModuleUtil):
    """Shift each feature; with residual add the result is x + shift.

    Args:
        in_features: D.
        adapter_strategy: how the output is merged; config or object, residual add if None.

    Raises:
        ValueError: a width below 1.
    """

    packed_form = PackedBitFit

    def __init__(self, in_features: int, adapter_strategy: Any = None) -> None:
        super().__init__()
        check_sizes(in_features=in_features)
        self.shift = nn.Parameter(torch.zeros(in_features))
        self.setup_adapter_strategy(adapter_strategy)

    def reads_padding(self, training: bool) -> bool:
        """See AdapterModuleUtil: nothing of the input is read."""
        return False

    def forward(self, x: Tensor) -> Tensor:
        """Return shift at each step, [..., D]."""
        return self.shift.expand_as(x)


@dataclass
class BitFitConfig:
    """Config of BitFit; fields as its arguments."""

    in_features: int
    adapter_strategy: Any | None = field(default_factory=ResidualAddAdapterStrategyConfig)
    _target_: str = target_of(BitFit)
