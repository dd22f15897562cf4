"""The host's part of merging: what each slot's strategy contributes to a step, and the noise that is drawn for it.

Shape legend: L layers with adapters, K slots, B rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.adapters import functional
from harness.adapters.packed import PackedStrategy


@dataclass
class SlotMerge:
    """A slot's strategy in one step: its packed form, itself, its generator, its own rows, its progress."""

    form: PackedStrategy
    strategy: Any
    generator: torch.Generator
    num_own_rows: int
    progress: float

    def keep_probability(self, depth_fraction: float) -> float:
        """1 - the drop probability of a layer at this moment; 1 where the strategy drops nothing."""
        return 1.0 - self.form.drop_probability(self.strategy, depth_fraction, self.progress)

    @property
    def drop_unit(self) -> str:
        """What one draw drops: the "batch" or each "row"."""
        return self.form.drop_unit(self.strategy)

    @property
    def options(self) -> list[float]:
        """The numeric options that it has for itself, in the form's order."""
        return options_of(self.form, self.strategy)


def options_of(form: PackedStrategy, strategy: Any) -> list[float]:
    """The values of `form.options` in a strategy."""
    return [float(getattr(strategy, name)) for name in form.options]


def drop_unit(merges: Sequence[SlotMerge], keeps_LK: Sequence[Sequence[float]]) -> str | None:
    """What the noise of a launch drops: "row" where any slot drops rows, else "batch"; None where it drops nothing."""
    if all(keep == 1.0 for keeps_K in keeps_LK for keep in keeps_K):
        return None
    return "row" if any(merge.drop_unit == "row" for merge in merges) else "batch"


def draw_noise(
    merges: Sequence[SlotMerge],
    keeps_LK: Sequence[Sequence[float]],
    num_rows: int,
    dtype: torch.dtype,
    device: torch.device,
) -> list[Tensor]:
    """The noise of all layers, lowest first: each slot's from its own generator, in the order of its plain loop.

    Returns:
        for each layer [K, 1, 1, 1], or [K, B, 1, 1] where any slot drops rows.
    """
    return [
        functional.draw_packed_noise(
            (len(merges), num_rows, 1, 1),
            keeps_K,
            [merge.generator for merge in merges],
            drop=[merge.drop_unit for merge in merges],
            num_rows=[merge.num_own_rows for merge in merges],
            dtype=dtype,
            device=device,
        )
        for keeps_K in keeps_LK
    ]
