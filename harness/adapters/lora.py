"""LoRA: a low-rank update beside a frozen linear module (Hu et al. 2021, arXiv 2106.09685).

Beside a module with weight W [O, I] (`backbone.points: [q_proj]`, or `{beside: PATTERN}`), residual add gives

    W x + scale * B A x        scale = alpha / r, or alpha / sqrt(r) (rank-stabilised, Kalajdzievski 2023, 2312.03732)

B is 0 at first. Names and first weights are those of the library PEFT. Parameters: r * (I + O).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from harness.adapters import functional
from harness.adapters.linear import AdapterModuleUtil, check_dropout, check_sizes
from harness.adapters.packed import PackedAdapter, padded_width
from harness.adapters.strategies import ResidualAddAdapterStrategyConfig
from harness.instantiate import target_of

OPTIONS: dict[str, tuple[Any, ...]] = {"rank_stabilized": (False, True)}


@dataclass(frozen=True)
class PackedLoRA(PackedAdapter):
    """LoRA of K trials at once; ranks are padded with zeros, whose products and gradients are 0.

    Attributes:
        width: the rank, padded.
        scale: of the update; trials with another one have a pack of their own.
    """

    width: int
    scale: float

    @staticmethod
    def why_not(adapter: LoRA) -> str | None:
        """See PackedAdapter."""
        return None if adapter.dropout is None else "adapter.dropout draws from torch's global generator"

    @classmethod
    def of(cls, adapter: LoRA) -> Self:
        """See PackedAdapter."""
        return cls(padded_width(adapter.lora_A.out_features), adapter.scale)

    def padded_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See PackedAdapter: A is [r, I], B is [O, r]."""
        return (self.width, shape[1]) if name == "lora_A.weight" else (shape[0], self.width)

    def run(self, weights: Mapping[str, Tensor], x_KBTD: Tensor) -> Tensor:
        """See PackedAdapter."""
        return functional.low_rank(x_KBTD, weights["lora_A.weight"], weights["lora_B.weight"], self.scale)


class LoRA(nn.Module, AdapterModuleUtil):
    """A low-rank update whose output is exactly zero before training.

    Args:
        in_features: I, the width that it reads.
        r: the rank.
        alpha: the update is scaled by alpha / r.
        out_features: O, the width of its output; I if None. Beside a module it follows from that.
        dropout: probability of dropping an element of the input, in training; 0 adds no layer.
        rank_stabilized: scale by alpha / sqrt(r), so that a larger rank does not learn more slowly.
        adapter_strategy: how the output is merged; config or object, residual add if None.

    Raises:
        ValueError: a size below 1, a dropout out of range, or an alpha that is no positive number.
    """

    packed_form = PackedLoRA

    def __init__(
        self,
        in_features: int,
        r: int,
        alpha: float = 16.0,
        out_features: int | None = None,
        dropout: float = 0.0,
        rank_stabilized: bool = False,
        adapter_strategy: Any = None,
    ) -> None:
        super().__init__()
        out_features = in_features if out_features is None else out_features
        check_sizes(in_features=in_features, r=r, out_features=out_features)
        check_dropout(dropout)
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0.0 < alpha < math.inf:
            raise ValueError(f"alpha has to be a finite number above 0, but got {alpha!r}")
        self.scale = alpha / (math.sqrt(r) if rank_stabilized else r)
        self.dropout = nn.Dropout(dropout) if dropout > 0.0 else None
        self.lora_A = nn.Linear(in_features, r, bias=False)
        self.lora_B = nn.Linear(r, out_features, bias=False)
        self.setup_adapter_strategy(adapter_strategy)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """A as a linear layer's weight, uniform in +- 1 / sqrt(I); B zero."""
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        self.lora_B.weight.zero_()

    def reads_padding(self, training: bool) -> bool:
        """See AdapterModuleUtil: each step is computed by itself."""
        return False

    def forward(self, x: Tensor) -> Tensor:
        """Return scale * B A x: [..., I] -> [..., O]."""
        x = x if self.dropout is None else self.dropout(x)
        return functional.low_rank(x, self.lora_A.weight, self.lora_B.weight, self.scale)

    def extra_repr(self) -> str:
        """Shown by `print(model)`."""
        return f"scale={self.scale:g}"


@dataclass
class LoRAConfig:
    """Config of LoRA; fields as its arguments."""

    in_features: int
    r: int
    alpha: float = 16.0
    out_features: int | None = None
    dropout: float = 0.0
    rank_stabilized: bool = False
    adapter_strategy: Any | None = field(default_factory=ResidualAddAdapterStrategyConfig)
    _target_: str = target_of(LoRA)
