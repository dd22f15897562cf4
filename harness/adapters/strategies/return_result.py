"""ReturnResultAdapterStrategy: the adapter's output replaces its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from harness.adapters.packed import PackedCall, PackedStrategy
from harness.adapters.strategies.abstract import AbstractAdapterStrategy
from harness.instantiate import target_of


@dataclass(frozen=True)
class PackedReturnResult(PackedStrategy):
    """ReturnResultAdapterStrategy for K trials at once."""

    def merge(self, call: PackedCall, x_KBTD: Tensor) -> Tensor:
        """See PackedStrategy."""
        return call.run(x_KBTD)


class ReturnResultAdapterStrategy(AbstractAdapterStrategy):
    """Return `adapter(input)`: no residual, no noise, no penalty."""

    packed_form = PackedReturnResult()

    def reads_padding(self, training: bool) -> bool:
        """See AbstractAdapterStrategy."""
        return False

    def forward(self, input: Any, adapter: nn.Module, *, module: Any) -> Tensor:
        """See AbstractAdapterStrategy; a list or tuple is passed as `*input`, a dict as `**input`."""
        return self.compute_output(input, adapter, module=module)

    def compute_output(self, input: Any, adapter: nn.Module, *, module: Any) -> Tensor:
        """Run the adapter alone (override point)."""
        output: Tensor
        if isinstance(input, (list, tuple)):
            output = adapter(*input)
        elif isinstance(input, dict):
            output = adapter(**input)
        else:
            output = adapter(input)
        return output


@dataclass
class ReturnResultAdapterStrategyConfig:
    """Config of ReturnResultAdapterStrategy."""

    _target_: str = target_of(ReturnResultAdapterStrategy)
