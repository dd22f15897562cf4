"""LinearAdapter: a bottleneck of two projections and a layer norm, and the base class of adapter modules.

Signature, initialisation and state-dict keys are those of NeMo's class of the same name, so that weights
pass between the two. Parameters: 2 * D * H + 2 * D.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from harness.adapters import functional, nemo_bridge
from harness.adapters.access import AccessMixin
from harness.adapters.kinds import strategy_kind
from harness.adapters.packed import PackedAdapter, padded_width
from harness.adapters.strategies import ResidualAddAdapterStrategyConfig
from harness.instantiate import TARGET_KEY, instantiate, target_of, to_plain

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "hardtanh": nn.Hardtanh,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "swish": nn.SiLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


OPTIONS: dict[str, tuple[Any, ...]] = {
    "activation": tuple(ACTIVATIONS),
    "norm_position": ("pre", "post"),
}

# Where the layer norm, the projection down and the projection up are in `LinearAdapter.module`; the activation lies
# between the two projections.
PLACES = {"pre": (0, 1, 3), "post": (3, 0, 2)}


class AdapterModuleUtil(AccessMixin):
    """What every adapter module has (NeMo's name): a strategy, a registry, and `adapter_unfreeze`.

    Like a strategy, a class may declare that its trials can be packed, and that padding does not matter. Its subclasses
    do not inherit either.
    """

    adapter_strategy: Any

    packed_form: ClassVar[type[PackedAdapter] | None] = None
    """How it is computed for several trials at once (harness/adapters/packed.py); None: it is not."""

    rescales: ClassVar[bool] = False
    """Whether its output is its input times something, which is a rescaling only where that is what it is merged with.
    Beside a module it is not, so such a class is refused there, on its own or in another adapter."""

    def reads_padding(self, training: bool) -> bool:
        """Whether what padded steps hold may change the output at real steps, in training or in scoring."""
        return True

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
            self.adapter_strategy = instantiate(plain, strategy_kind)
        elif callable(adapter_strategy) and not isinstance(adapter_strategy, type):
            self.adapter_strategy = adapter_strategy
        else:
            path = adapter_strategy if isinstance(adapter_strategy, str) else "module.Name"
            raise AttributeError(
                f"`adapter_strategy` provided is invalid : {adapter_strategy}; write {{{TARGET_KEY}: {path}}}"
            )
        nemo_bridge.connect_loaded_nemo()

    def get_default_strategy_config(self) -> Any:
        """The strategy used when none is given: residual add."""
        return ResidualAddAdapterStrategyConfig()

    def adapter_unfreeze(self) -> None:
        """Make every parameter of the adapter trainable; override it to leave some frozen."""
        assert isinstance(self, nn.Module)
        for parameter in self.parameters():
            parameter.requires_grad_(True)


@dataclass(frozen=True)
class PackedLinear(PackedAdapter):
    """LinearAdapters of K trials at once; bottlenecks are padded to a common width.

    That is exact: every activation maps 0 to 0, so a padded unit's weights, gradients and moments stay 0.

    Attributes:
        width: of the bottleneck, padded.
        norm_position: as LinearAdapter's.
        activation: its class.
        eps: of the layer norm.
    """

    width: int
    norm_position: str
    activation: type[nn.Module]
    eps: float

    @staticmethod
    def why_not(adapter: LinearAdapter) -> str | None:
        """See PackedAdapter."""
        return None if adapter.dropout is None else "adapter.dropout draws from torch's global generator"

    @classmethod
    def of(cls, adapter: LinearAdapter) -> Self:
        """See PackedAdapter."""
        norm, down, activation, _ = adapter._parts
        return cls(padded_width(down.out_features), adapter.norm_position, type(activation), norm.eps)

    def padded_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See PackedAdapter: down is [H, D], up is [D, H]."""
        _, down, up = self._names
        if name == f"{down}.weight":
            return self.width, shape[1]
        return (shape[0], self.width) if name == f"{up}.weight" else shape

    def run(self, weights: Mapping[str, Tensor], x_KBTD: Tensor) -> Tensor:
        """See PackedAdapter."""
        norm, down, up = self._names
        return functional.bottleneck(
            x_KBTD,
            norm_weight=weights[f"{norm}.weight"],
            norm_bias=weights[f"{norm}.bias"],
            down=weights[f"{down}.weight"],
            up=weights[f"{up}.weight"],
            activation=self._activate,
            norm_position=self.norm_position,
            eps=self.eps,
        )

    @cached_property
    def _names(self) -> list[str]:
        return [f"module.{place}" for place in PLACES[self.norm_position]]

    @cached_property
    def _activate(self) -> nn.Module:
        return self.activation()


class LinearAdapter(nn.Module, AdapterModuleUtil):
    """A bottleneck adapter whose output is exactly zero before training.

    Args:
        in_features: D, the width of input and output.
        dim: H, the width of the bottleneck.
        activation: a key of ACTIVATIONS: identity, hardtanh, relu, selu, swish (or silu), gelu.
        norm_position: "pre" normalises the input, "post" the output.
        dropout: probability of dropping an element of the output; 0 adds no layer.
        adapter_strategy: how the output is merged with the input; config or object, residual add if None.

    Raises:
        ValueError: a size below 1, or an unknown activation or norm position.
    """

    packed_form = PackedLinear

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
        check_sizes(in_features=in_features, dim=dim)
        check_choices(OPTIONS, activation=activation, norm_position=norm_position)
        check_dropout(dropout)
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

    @property
    def _parts(self) -> tuple[Any, Any, Any, Any]:
        """The layer norm, the projection down, the activation and the projection up."""
        layers: list[Any] = list(self.module)
        norm, down, up = PLACES[self.norm_position]
        return layers[norm], layers[down], layers[down + 1], layers[up]

    def reads_padding(self, training: bool) -> bool:
        """See AdapterModuleUtil: each step is computed by itself."""
        return False

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapter's output for x, both [..., D], without the residual."""
        norm, down, activation, up = self._parts
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


def check_sizes(**sizes: Any) -> None:
    """Raise ValueError unless each argument of these names is a whole number of at least 1."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} has to be a whole number of at least 1, but got {size!r}")


def check_choices(options: Mapping[str, tuple[Any, ...]], **values: Any) -> None:
    """Raise ValueError unless each argument of these names has one of its choices."""
    for name, value in values.items():
        if value not in options[name]:
            raise ValueError(f"{name} has to be one of {', '.join(map(str, options[name]))}, but got {value!r}")


def check_dropout(dropout: Any) -> None:
    """Raise ValueError unless a probability of dropping is in [0, 1]."""
    if not isinstance(dropout, (int, float)) or isinstance(dropout, bool) or not 0.0 <= dropout <= 1.0:
        raise ValueError(f"dropout has to be between 0 and 1, but got {dropout}")
