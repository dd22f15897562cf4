"""The strategies with a trial axis: what harness/adapters/strategies computes for one trial, for K of them.

The maths is that of `functional`; here each slot has its own probability, lambda and generator. `skip_dropped` needs no
form of its own: what it leaves uncomputed is computed here and dropped, which gives the same values and gradients.

Shape legend: L layers with adapters, K slots, B rows, T steps, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.adapters import ResidualAddAdapterStrategy, ReturnResultAdapterStrategy, functional

if TYPE_CHECKING:
    from harness.engines.packed.model import Launch


@dataclass
class SlotMerge:
    """What a slot's strategy needs in one launch: the strategy itself, its generator, its own rows, its progress."""

    strategy: Any
    generator: torch.Generator
    num_own_rows: int
    progress: float

    def keep_probability(self, depth_fraction: float) -> float:
        """1 - the drop probability of a layer at this moment; 1 where the strategy drops nothing."""
        strategy = self.strategy
        if not isinstance(strategy, ResidualAddAdapterStrategy):
            return 1.0
        drop = functional.drop_probability(
            strategy.stochastic_depth,
            depth_schedule=strategy.depth_schedule,
            depth_fraction=depth_fraction,
            progress_schedule=strategy.progress_schedule,
            training_progress=self.progress,
        )
        return 1.0 - float(drop)

    @property
    def l2_lambda(self) -> float:
        """Weight of its penalty; 0 without one."""
        strategy = self.strategy
        return float(strategy.l2_lambda) if isinstance(strategy, ResidualAddAdapterStrategy) else 0.0


Run = Callable[[Tensor], Tensor]


def drop_unit(merges: Sequence[SlotMerge], keeps_LK: Sequence[Sequence[float]]) -> str | None:
    """What the noise of a launch drops: "row" where any slot drops rows, else "batch"; None where it drops nothing."""
    if all(keep == 1.0 for keeps_K in keeps_LK for keep in keeps_K):
        return None
    return "row" if any(merge.strategy.drop == "row" for merge in merges) else "batch"


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
            drop=[merge.strategy.drop for merge in merges],
            num_rows=[merge.num_own_rows for merge in merges],
            dtype=dtype,
            device=device,
        )
        for keeps_K in keeps_LK
    ]


def merge_residual_add(launch: Launch, x_KBTD: Tensor, run: Run, number: int) -> Tensor:
    """See ResidualAddAdapterStrategy; `number` is the layer's, counted over those with adapters."""
    clean_KBTD = noised_KBTD = run(x_KBTD)
    if launch.noise_L:
        noised_KBTD = functional.stochastic_depth(clean_KBTD, launch.noise_L[number], launch.keeps_L[number])
    result_KBTD = functional.residual_add(x_KBTD, noised_KBTD)
    if launch.penalty is not None:
        assert launch.lambdas_K is not None
        target, reduction = launch.penalty
        difference_KBTD = clean_KBTD if target == "adapter_output" else x_KBTD - result_KBTD
        penalty_K = functional.l2_penalty(
            difference_KBTD,
            launch.lambdas_K,
            reduction=reduction,
            valid_frames=launch.valid_KBT,
            packed=True,
            own_frames=launch.own_KBT,
            num_rows=launch.num_own_rows_K,
        )
        launch.penalties.append(penalty_K)
    return result_KBTD


def merge_return_result(launch: Launch, x_KBTD: Tensor, run: Run, number: int) -> Tensor:
    """See ReturnResultAdapterStrategy."""
    return run(x_KBTD)


MERGES: dict[type, Callable[[Launch, Tensor, Run, int], Tensor]] = {
    ResidualAddAdapterStrategy: merge_residual_add,
    ReturnResultAdapterStrategy: merge_return_result,
}
"""Strategy -> its packed form; exactly these classes, as a subclass may do anything."""
