"""Adapters whose output at a step depends on other steps: TinyAttention and Convolution.

They read real steps alone, so that an item gives the same in any batch: each declares `valid_frames`, which the host
sets for the time of a pass (AdapterModuleMixin.forward_enabled_adapters). Neither has a packed form, because that is
handed no mask of real steps; their trials train behind their cut.

Shape legend: B rows, T steps, D width, N heads, H width of a head or of the bottleneck.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.adapters.linear import ACTIVATIONS, AdapterModuleUtil, check_choices, check_dropout, check_sizes
from harness.adapters.strategies import ResidualAddAdapterStrategyConfig
from harness.instantiate import target_of

OPTIONS: dict[str, tuple[Any, ...]] = {"activation": tuple(ACTIVATIONS)}


class _AcrossSteps(nn.Module, AdapterModuleUtil):
    """What both have: the mask of real steps."""

    valid_frames: Tensor | None = None

    def real_steps(self, x_BTD: Tensor) -> Tensor | None:
        """The mask [B, T] of real steps; None where all are.

        Raises:
            ValueError: the input is not [B, T, D], or the mask is of another batch.
        """
        valid_BT = self.valid_frames
        if x_BTD.ndim != 3 or (valid_BT is not None and valid_BT.shape != x_BTD.shape[:2]):
            mask = "" if valid_BT is None else f" of {list(valid_BT.shape)} steps"
            raise ValueError(
                f"{type(self).__name__} reads several steps, so its input has to be a whole batch{mask}, [B, T, D], "
                f"but it is {list(x_BTD.shape)}"
            )
        return valid_BT


class TinyAttention(_AcrossSteps):
    """Self-attention with narrow heads (Zhao et al. 2022, arXiv 2211.01979), exactly zero before training.

    A layer norm, then attention as in NeMo's MultiHeadAttentionAdapter, whose names of weights it has. That has a bias
    of the keys as well, which changes no output: it adds the same to all scores of a query.
    Parameters: 4 * D * N * H + 2 * N * H + 3 * D.

    Args:
        in_features: D.
        dim: H, the width of a head.
        num_heads: N.
        dropout: probability of dropping an attention weight, in training.
        adapter_strategy: how the output is merged with the input; config or object, residual add if None.

    Raises:
        ValueError: a size below 1, or a dropout out of range.
    """

    def __init__(
        self, in_features: int, dim: int, num_heads: int = 1, dropout: float = 0.0, adapter_strategy: Any = None
    ) -> None:
        super().__init__()
        check_sizes(in_features=in_features, dim=dim, num_heads=num_heads)
        check_dropout(dropout)
        self.num_heads, self.dropout = num_heads, dropout
        self.pre_norm = nn.LayerNorm(in_features)
        self.linear_q = nn.Linear(in_features, num_heads * dim)
        self.linear_k = nn.Linear(in_features, num_heads * dim, bias=False)
        self.linear_v = nn.Linear(in_features, num_heads * dim)
        self.linear_out = nn.Linear(num_heads * dim, in_features)
        self.setup_adapter_strategy(adapter_strategy)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Zero the last layer."""
        for parameter in self.linear_out.parameters():
            parameter.zero_()

    def reads_padding(self, training: bool) -> bool:
        """See AdapterModuleUtil: no step attends to padding."""
        return False

    def forward(self, x: Tensor) -> Tensor:
        """Return the attention's output for x, both [B, T, D], without the residual."""
        valid_BT = self.real_steps(x)
        normed_BTD = self.pre_norm(x)
        q_BNTH, k_BNTH, v_BNTH = (
            linear(normed_BTD).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for linear in (self.linear_q, self.linear_k, self.linear_v)
        )
        out_BNTH = F.scaled_dot_product_attention(
            q_BNTH,
            k_BNTH,
            v_BNTH,
            None if valid_BT is None else valid_BT[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        out_BTD: Tensor = self.linear_out(out_BNTH.transpose(1, 2).flatten(2))
        return out_BTD


@dataclass
class TinyAttentionConfig:
    """Config of TinyAttention; fields as its arguments."""

    in_features: int
    dim: int
    num_heads: int = 1
    dropout: float = 0.0
    adapter_strategy: Any | None = field(default_factory=ResidualAddAdapterStrategyConfig)
    _target_: str = target_of(TinyAttention)


class Convolution(_AcrossSteps):
    """A bottleneck with a depthwise convolution over time in it, exactly zero before training.

    Layer norm, projection down, convolution (each hidden feature by itself, zeros for what is padding), activation,
    projection up: the convolution of a Conformer (Gulati et al. 2020, arXiv 2005.08100) in an adapter.
    Parameters: 2 * D * H + 2 * D + H * kernel.

    Args:
        in_features: D.
        dim: H, the width of the bottleneck.
        kernel: how many steps the convolution reads, an odd number; the step itself is in the middle.
        activation: a key of harness.adapters.linear.ACTIVATIONS: identity, hardtanh, relu, selu, swish (or silu), gelu.
        dropout: probability of dropping an element of the output; 0 adds no layer.
        adapter_strategy: how the output is merged with the input; config or object, residual add if None.

    Raises:
        ValueError: a size below 1, an even kernel, an unknown activation, or a dropout out of range.
    """

    def __init__(
        self,
        in_features: int,
        dim: int,
        kernel: int = 7,
        activation: str = "swish",
        dropout: float = 0.0,
        adapter_strategy: Any = None,
    ) -> None:
        super().__init__()
        check_sizes(in_features=in_features, dim=dim, kernel=kernel)
        check_choices(OPTIONS, activation=activation)
        check_dropout(dropout)
        if kernel % 2 == 0:
            raise ValueError(
                f"kernel has to be odd, so that a step is in the middle of what it reads, but got {kernel}"
            )
        self.norm = nn.LayerNorm(in_features)
        self.down = nn.Linear(in_features, dim, bias=False)
        # As a 2-D convolution of height one, which is faster on a CPU (harness/backbones/blocks.py).
        self.depthwise = nn.Conv2d(dim, dim, (1, kernel), padding=(0, kernel // 2), groups=dim, bias=False)
        self.activation = ACTIVATIONS[activation]()
        self.up = nn.Linear(dim, in_features, bias=False)
        self.dropout = nn.Dropout(dropout) if dropout > 0.0 else None
        self.setup_adapter_strategy(adapter_strategy)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Zero the last layer."""
        self.up.weight.zero_()

    def reads_padding(self, training: bool) -> bool:
        """See AdapterModuleUtil: the convolution sees zeros for padding."""
        return False

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapter's output for x, both [B, T, D], without the residual."""
        valid_BT = self.real_steps(x)
        hidden_BTH = self.down(self.norm(x))
        if valid_BT is not None:
            hidden_BTH = hidden_BTH.masked_fill(~valid_BT[..., None], 0.0)
        mixed_BTH = self.depthwise(hidden_BTH.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        out_BTD: Tensor = self.up(self.activation(mixed_BTH))
        return out_BTD if self.dropout is None else self.dropout(out_BTD)


@dataclass
class ConvolutionConfig:
    """Config of Convolution; fields as its arguments."""

    in_features: int
    dim: int
    kernel: int = 7
    activation: str = "swish"
    dropout: float = 0.0
    adapter_strategy: Any | None = field(default_factory=ResidualAddAdapterStrategyConfig)
    _target_: str = target_of(Convolution)
