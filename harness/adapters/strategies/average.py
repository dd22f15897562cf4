"""AverageStrategy: `x + mean of the adapters' outputs`, nothing learned about the merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from harness.adapters import functional, merging
from harness.adapters.strategies.abstract import AbstractAdapterStrategy
from harness.adapters.strategies.members import check_names, member_outputs, stack
from harness.instantiate import target_of


class AverageStrategy(AbstractAdapterStrategy):
    """Add to the input the mean of the outputs of the adapter and of others at its insertion point.

    `x + sum_n w_n adapter_n(x) / sum_n w_n`: the adapter itself is the first member, those in `over` follow. The others
    are run alone, each without the residual, noise and penalty of its own strategy.

    Args:
        over: names of the other adapters; none gives residual add.
        weights: one positive number a member, the adapter's own first; equal if None.

    Raises:
        ValueError: names or weights that are none.
    """

    def __init__(self, over: Sequence[str] = (), weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.over = check_names(over, least=0)
        self.weights = None if weights is None else tuple(weights)
        if weights is not None and (len(weights) != 1 + len(self.over) or not all(map(_is_weight, weights))):
            names = ", ".join(("the adapter's own", *self.over))
            raise ValueError(f"weights have to be a positive number for each of: {names}; but got {weights!r}")

    def reads_padding(self, training: bool) -> bool:
        """See AbstractAdapterStrategy. The members answer for themselves."""
        return False

    def forward(self, input: Tensor, adapter: nn.Module, *, module: Any) -> Tensor:
        """Return the input plus the mean, [..., D].

        Raises:
            ValueError: a member is not there.
        """
        outputs = [adapter(input), *member_outputs(self.over, input, module=module, own=adapter)]
        return functional.residual_add(input, merging.weighted_mean(stack(outputs), self.weights))


def _is_weight(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0 < value < float("inf")


@dataclass
class AverageStrategyConfig:
    """Config of AverageStrategy; fields as its arguments."""

    over: Sequence[str] = ()
    weights: Sequence[float] | None = None
    _target_: str = target_of(AverageStrategy)
