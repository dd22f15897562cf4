"""Gated: a gate on the output of any other adapter, learnt or fixed. Parameters: those of the adapter, and 1 or D.

With residual add the result is x + gate * adapter(x). A learnt gate that starts at 0 is ReZero (Bachlechner et al.
2020, arXiv 2003.04887). A fixed one is the scaling s of He et al. 2022 (arXiv 2110.04366), whose scaled parallel
adapter is `{gate: fixed, start: 4}` around a LinearAdapter, beside the feed-forward part.

An output of 0 times a gate of 0 would have no gradient at all. So where a learnt gate starts at 0 and the adapter gives
0, the weights with which it does so are drawn as those of a linear layer: the gate alone makes the identity then.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from harness.adapters import functional
from harness.adapters.linear import AdapterModuleUtil, check_choices, check_sizes
from harness.adapters.packed import PackedAdapter, packed_adapter
from harness.adapters.strategies import ResidualAddAdapterStrategyConfig
from harness.instantiate import target_of

OPTIONS: dict[str, tuple[Any, ...]] = {"gate": ("scalar", "vector", "fixed")}
INNER = "adapter."  # the prefix of the names of the inner adapter's weights


@dataclass(frozen=True)
class PackedGated(PackedAdapter):
    """Gated adapters of K trials at once.

    Attributes:
        adapter: the form of the adapters that are gated.
        gate: the kind of the gate. One number and a vector broadcast alike, but their rows of weights differ.
        scale: of a fixed gate; None for a learnt one.
    """

    adapter: PackedAdapter
    gate: str
    scale: float | None

    @staticmethod
    def why_not(adapter: Gated) -> str | None:
        """See PackedAdapter."""
        form = packed_adapter(adapter.adapter)
        if form is None:
            return f"adapter.adapter {target_of(type(adapter.adapter))} has no packed form"
        return form.why_not(adapter.adapter)

    @classmethod
    def of(cls, adapter: Gated) -> Self:
        """See PackedAdapter."""
        form = packed_adapter(adapter.adapter)
        assert form is not None, "only packable adapters are packed"
        return cls(form.of(adapter.adapter), adapter.kind, adapter.scale)

    def padded_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See PackedAdapter."""
        return self.adapter.padded_shape(name.removeprefix(INNER), shape) if name.startswith(INNER) else shape

    def run(self, weights: Mapping[str, Tensor], x_KBTD: Tensor) -> Tensor:
        """See PackedAdapter."""
        inner = {name.removeprefix(INNER): value for name, value in weights.items() if name.startswith(INNER)}
        out_KBTD = self.adapter.run(inner, x_KBTD)
        if self.scale is not None:
            return out_KBTD * self.scale
        return out_KBTD * functional.align_features(weights["gate"], out_KBTD)


class Gated(nn.Module, AdapterModuleUtil):
    """Another adapter whose output is multiplied by a gate.

    Args:
        in_features: the width that it reads.
        adapter: the config of the adapter that is gated; its own strategy is not used. A module, when built.
        gate: "scalar" learns one number, "vector" one for each feature, "fixed" is `start` for good.
        start: what the gate is at first.
        out_features: D, the width of its output; `in_features` if None. Beside a module it follows from that.
        adapter_strategy: how the output is merged; config or object, residual add if None.

    Raises:
        ValueError: an unknown gate, a start that is no finite number, a fixed gate of 0, or no adapter.
    """

    packed_form = PackedGated

    def __init__(
        self,
        in_features: int,
        adapter: Any,
        gate: str = "scalar",
        start: float = 0.0,
        out_features: int | None = None,
        adapter_strategy: Any = None,
    ) -> None:
        super().__init__()
        out_features = in_features if out_features is None else out_features
        check_sizes(in_features=in_features, out_features=out_features)
        check_choices(OPTIONS, gate=gate)
        if isinstance(start, bool) or not isinstance(start, (int, float)) or not math.isfinite(start):
            raise ValueError(f"start has to be a finite number, but got {start!r}")
        if gate == "fixed" and start == 0:
            raise ValueError("start: 0: a fixed gate of 0 lets nothing through; give the scale, such as 4")
        if not isinstance(adapter, nn.Module):
            raise ValueError(
                f"adapter has to be the config of an adapter (a mapping with _target_), but got {adapter!r}"
            )
        self.adapter = adapter
        self.kind = gate
        self.scale = float(start) if gate == "fixed" else None
        if self.scale is None:
            self.gate = nn.Parameter(torch.full((1 if gate == "scalar" else out_features,), float(start)))
            if start == 0 and _gives_nothing(adapter, in_features):
                _draw_zeros(adapter)
        self.setup_adapter_strategy(adapter_strategy)

    def reads_padding(self, training: bool) -> bool:
        """See AdapterModuleUtil: what the adapter's own class says."""
        says = vars(type(self.adapter)).get("reads_padding")
        return says is None or bool(says(self.adapter, training))

    def forward(self, x: Tensor) -> Tensor:
        """Return gate * adapter(x), [..., D]."""
        out: Tensor = self.adapter(x)
        return out * (self.gate if self.scale is None else self.scale)

    def extra_repr(self) -> str:
        """Shown by `print(model)`."""
        return "" if self.scale is None else f"scale={self.scale:g}"


@torch.no_grad()
def _draw_zeros(adapter: nn.Module) -> None:
    """Draw the matrices that are all 0, or where there is none the vectors, as nn.Linear draws its weight and bias."""
    zeros = [weight for weight in adapter.parameters() if not weight.any()]
    matrices = [weight for weight in zeros if weight.ndim > 1]
    for weight in matrices:
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    beside = _biases_of_live_weights(adapter)
    for weight in [] if matrices else [weight for weight in zeros if id(weight) not in beside]:
        bound = 1 / math.sqrt(weight.numel())
        nn.init.uniform_(weight, -bound, bound)


def _biases_of_live_weights(adapter: nn.Module) -> set[int]:
    """The ids of biases that hold nothing at 0, since the weight of their module (a norm, say) is not 0."""
    modules: list[Any] = [module for module in adapter.modules() if {"weight", "bias"} <= module._parameters.keys()]
    return {id(module.bias) for module in modules if module.weight is not None and module.weight.any()}


@torch.no_grad()
def _gives_nothing(adapter: nn.Module, in_features: int) -> bool:
    """Whether an adapter's output is exactly 0; also where it cannot be told, as a gate of 0 needs that it is not."""
    x = torch.randn(2, 3, in_features, generator=torch.Generator().manual_seed(0))
    weight = next((one for one in adapter.parameters() if one.is_floating_point()), x)
    try:
        with torch.random.fork_rng(devices=[]):
            output = copy.deepcopy(adapter).eval()(x.to(weight))  # a copy: a pass may change what a class keeps
    except Exception:  # a class of a user's own may raise anything; it is told where the adapter is tried
        return True
    return isinstance(output, Tensor) and not output.any()


@dataclass
class GatedConfig:
    """Config of Gated; fields as its arguments."""

    in_features: int
    adapter: Any
    gate: str = "scalar"
    start: float = 0.0
    out_features: int | None = None
    adapter_strategy: Any | None = field(default_factory=ResidualAddAdapterStrategyConfig)
    _target_: str = target_of(Gated)

    example: ClassVar[dict[str, Any]] = {"adapter": {"_target_": "harness.adapters.LinearAdapter", "dim": 3}}
    """What the contract suite gives for arguments that are neither a width nor have a default."""
