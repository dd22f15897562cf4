"""FusionStrategy: merge several adapters of a host by the attention of a fusion module (AdapterFusion, SimAdapter).

residual: after      x + fusion(x, [z_1 .. z_N])        AdapterFusion: z_n = adapter_n(x)
residual: members    fusion(x, [x + z_1 .. x + z_N])    SimAdapter: a_n = x + adapter_n(x)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters import functional
from harness.adapters.strategies.abstract import AbstractAdapterStrategy
from harness.adapters.strategies.members import member_outputs, stack
from harness.instantiate import target_of

OPTIONS: dict[str, tuple[Any, ...]] = {"residual": ("after", "members")}


class FusionStrategy(AbstractAdapterStrategy):
    """Let a fusion module merge what other adapters of its insertion point give for its input.

    The members are those that the module names in `over`; each is run alone (see `member_outputs`).

    Args:
        residual: "after" adds the input to the merged outputs (AdapterFusion), "members" adds it to each output before
            they are merged (SimAdapter).

    Raises:
        ValueError: an unknown residual.
    """

    def __init__(self, residual: str = "after") -> None:
        super().__init__()
        if residual not in OPTIONS["residual"]:
            raise ValueError(f"residual has to be one of {', '.join(OPTIONS['residual'])}, but got {residual!r}")
        self.residual = residual

    def reads_padding(self, training: bool) -> bool:
        """See AbstractAdapterStrategy: each step is merged by itself. The members answer for themselves."""
        return False

    def forward(self, input: Tensor, adapter: nn.Module, *, module: Any) -> Tensor:
        """Merge the members, [..., D]; the module keeps its losses and its attention.

        Raises:
            ValueError: the adapter is no fusion module, or a member is not there.
        """
        fusion: Any = adapter
        if not hasattr(fusion, "take_attention"):
            raise ValueError(f"FusionStrategy: {type(adapter).__name__} merges no adapters; AdapterFusion does")
        outputs = member_outputs(fusion.over, input, module=module, own=adapter)
        if fusion.with_self:
            outputs.append(torch.zeros_like(input))
        members = stack(outputs)
        if self.residual == "members":
            members = functional.residual_add(input.unsqueeze(-2), members)
        merged, attention = fusion.attend(input, members)
        fusion.take_attention(attention, module)
        return merged if self.residual == "members" else functional.residual_add(input, merged)


@dataclass
class FusionStrategyConfig:
    """Config of FusionStrategy; fields as its arguments."""

    residual: str = "after"
    _target_: str = target_of(FusionStrategy)
