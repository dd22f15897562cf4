"""A strategy of your own: it says how an adapter's output is merged with the adapter's input."""

from typing import Any

from torch import Tensor, nn

from harness.adapters import AbstractAdapterStrategy


class Gated(AbstractAdapterStrategy):
    """Add the adapter's output through a gate, which opens as the training goes on.

    Args:
        gate: the factor of the adapter's output at the end of the training, and whenever the model is used.
    """

    def __init__(self, gate: float = 1.0) -> None:
        self.gate = gate

    def forward(self, input: Tensor, adapter: nn.Module, *, module: Any) -> Tensor:
        """Merge `input` [B, T, D] and what the adapter makes of it, [B, T, D]."""
        opened = self.gate * module.training_progress if module.training else self.gate
        return input + opened * adapter(input)
