"""LinearAdapter: a bottleneck of two projections and a layer norm, and the base class of adapter modules.

Signature, initialisation and state-dict keys are those of NeMo's class of the same name, so that weights
pass between the two. Parameters: 2 * D * H + 2 * D.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from harness.adapters import functional, nemo_bridge
from harness.adapters.access import AccessMixin
from harness.adapters.strategies import ResidualAddAdapterStrategyConfig
from harness.adapters.strategies.abstract import target_of
from harness.instantiate import instantiate, to_plain

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "hardtanh": nn.Hardtanh,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "swish": nn.SiLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


class AdapterModuleUtil(AccessMixin):
    """What every adapter module has (NeMo's name): a strategy, a registry, and `adapter_unfreeze`."""

    adapter_strategy: Any

    def setup_adapter_strategy(self, adapter_strategy: Any = None) -> None:
        """Set `adapter_strategy` from a config (mapping, dataclass, omegaconf) or an object.

        Args:
            adapter_strategy: None takes `get_default_strategy_config()`.

        Raises:
            AttributeError: neither a config nor a callable object.
            InstantiationError: a config that cannot be built.
        """
        if adapter_strategy is None:
            adapter_strategy = self.get_default_strategy_config()
        plain = to_plain(adapter_strategy)
        if isinstance(plain, dict):
            self.adapter_strategy = instantiate(plain)
        elif callable(adapter_strategy) and not isinstance(adapter_strategy, type):
            self.adapter_strategy = adapter_strategy
        else:
            raise AttributeError(f"`adapter_strategy` provided is invalid : {adapter_strategy}")
        nemo_bridge.connect_loaded_nemo()

    def get_default_strategy_config(self) -> Any:
        """The strategy used when none is given: residual add."""
        return ResidualAddAdapterStrategyConfig()

    def adapter_unfreeze(self) -> None:
        """Make every parameter of the adapter trainable; override it to leave some frozen."""
        assert isinstance(self, nn.Module)
        for parameter in self.parameters():
            parameter.requires_grad_(True)


class LinearAdapter(nn.Module, AdapterModuleUtil):
    """A bottleneck adapter whose output is exactly zero before training.

    Args:
        in_features: D, the width of input and output.
        dim: H, the width of the bottleneck.
        activation: a key of ACTIVATIONS.
        norm_position: "pre" normalises the input, "post" the output.
        dropout: probability of dropping an element of the output; 0 adds no layer.
        adapter_strategy: config or object; residual add if None.

    Raises:
        ValueError: a size below 1, or an unknown activation or norm position.
    """

    def __init__(
        self,
        in_features: int,
        dim: int,
        activation: str = "swish",
        norm_position: str = "pre",
        dropout: float = 0.0,
        adapter_strategy: Any = None,
    ) -> None:
        super().__init__()
        _check(in_features, dim, activation, norm_position, dropout)
        self.norm_position = norm_position
        act = ACTIVATIONS[activation]()
        if hasattr(act, "inplace"):
            cast(Any, act).inplace = True
        norm = nn.LayerNorm(in_features)
        projections = (
            nn.Linear(in_features, dim, bias=False),
            act,
            nn.Linear(dim, in_features, bias=False),
        )
        layers = (norm, *projections) if norm_position == "pre" else (*projections, norm)
        self.module = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout) if dropout > 0.0 else None
        self.setup_adapter_strategy(adapter_strategy)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Zero the last layer, so that the adapter starts as the identity of its residual connection."""
        for parameter in self.module[-1].parameters():
            parameter.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapter's output for x, both [..., D], without the residual."""
        layers: list[Any] = list(self.module)
        norm, down, activation, up = layers if self.norm_position == "pre" else (layers[3], *layers[:3])
        out = functional.bottleneck(
            x,
            norm_weight=norm.weight,
            norm_bias=norm.bias,
            down=down.weight,
            up=up.weight,
            activation=activation,
            norm_position=self.norm_position,
            eps=norm.eps,
        )
        return out if self.dropout is None else self.dropout(out)


@dataclass
class LinearAdapterConfig:
    """Config of LinearAdapter; fields as its arguments."""

    in_features: int
    dim: int
    activation: str = "swish"
    norm_position: str = "pre"
    dropout: float = 0.0
    adapter_strategy: Any | None = field(default_factory=ResidualAddAdapterStrategyConfig)
    _target_: str = target_of(LinearAdapter)


def _check(in_features: int, dim: int, activation: str, norm_position: str, dropout: float) -> None:
    for name, size in (("in_features", in_features), ("dim", dim)):
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} has to be a whole number of at least 1, but got {size!r}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation has to be one of {', '.join(ACTIVATIONS)}, but got {activation!r}")
    if norm_position not in ("pre", "post"):
        raise ValueError(f"norm_position has to be one of pre, post, but got {norm_position!r}")
    if not 0.0 <= dropout <= 1.0:
        raise ValueError(f"dropout has to be between 0 and 1, but got {dropout}")
