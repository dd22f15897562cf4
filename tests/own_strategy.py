"""A strategy of a user's own with a packed form of its own, named in configs as `own_strategy.Blend`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from harness.adapters import AbstractAdapterStrategy, PackedCall, PackedStrategy, functional


def blend(x: Tensor, output: Tensor, share: functional.PerTrial, towards: str) -> Tensor:
    """The input moved by a share of the output, towards it or away from it."""
    moved = functional.per_trial(share, x) * output
    return x + moved if towards == "output" else x - moved


@dataclass(frozen=True)
class PackedBlend(PackedStrategy):
    """Blend for K trials at once: shares may differ between them, the direction and what is dropped may not."""

    options = ("share",)

    def variant(self, strategy: Blend, training: bool) -> str:
        return strategy.towards

    def drop_probability(self, strategy: Blend, depth_fraction: float, training_progress: float) -> float:
        return strategy.dropped

    def drop_unit(self, strategy: Blend) -> str:
        return "row"

    def merge(self, call: PackedCall, x_KBTD: Tensor) -> Tensor:
        output_KBTD = call.run(x_KBTD)
        if call.noise is not None and call.keep_K is not None:
            output_KBTD = functional.stochastic_depth(output_KBTD, call.noise, call.keep_K)
        return blend(x_KBTD, output_KBTD, call.options["share"], call.variant)


class Blend(AbstractAdapterStrategy):
    """Move the input by a share of the adapter's output; in training rows of it are dropped at random."""

    packed_form = PackedBlend()

    def __init__(self, share: float = 0.5, towards: str = "output", dropped: float = 0.0) -> None:
        super().__init__()
        self.share, self.towards, self.dropped = share, towards, dropped

    def forward(self, input: Tensor, adapter: nn.Module, *, module: Any) -> Tensor:
        output: Tensor = adapter(input)
        if module.training and self.dropped > 0.0:
            keep, shape = 1.0 - self.dropped, output.shape
            noise = functional.draw_noise(
                shape, keep, drop="row", generator=self.generator, dtype=output.dtype, device=output.device
            )
            output = functional.stochastic_depth(output, noise, keep)
        return blend(input, output, self.share, self.towards)


class Heir(Blend):
    """A subclass: it inherits what its parent computes, and none of what its parent declares."""
