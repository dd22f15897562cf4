"""The strategies with a trial axis: what harness/adapters/strategies computes for one trial, for K of them.

The maths is that of `functional`; here each slot has its own probability, lambda and generator. `skip_dropped` needs no
form of its own: what it leaves uncomputed is computed here and dropped, which gives the same values and gradients.

Shape legend: K slots, B rows, T steps, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.adapters import ResidualAddAdapterStrategy, ReturnResultAdapterStrategy, functional

if TYPE_CHECKING:
    from harness.training.packed.model import Launch


@dataclass
class SlotMerge:
    """What a slot's strategy needs in one launch: the strategy itself, its generator, its own rows, its progress."""

    strategy: Any
    generator: torch.Generator
    num_own_rows: int
    progress: float

    def keep_probability(self, depth_fraction: float) -> float:
        """1 - the drop probability of a layer at this moment."""
        strategy = self.strategy
        drop = functional.drop_probability(
            strategy.stochastic_depth,
            depth_schedule=strategy.depth_schedule,
            depth_fraction=depth_fraction,
            progress_schedule=strategy.progress_schedule,
            training_progress=self.progress,
        )
        return 1.0 - float(drop)


Run = Callable[[Tensor], Tensor]


def merge_residual_add(launch: Launch, x_KBTD: Tensor, run: Run, depth_fraction: float) -> Tensor:
    """See ResidualAddAdapterStrategy."""
    clean_KBTD = run(x_KBTD)
    if not launch.merges:
        return functional.residual_add(x_KBTD, clean_KBTD)
    result_KBTD = functional.residual_add(x_KBTD, _with_noise(launch, clean_KBTD, depth_fraction))
    if launch.penalty is not None:
        target, reduction = launch.penalty
        difference_KBTD = clean_KBTD if target == "adapter_output" else x_KBTD - result_KBTD
        lambdas = [merge.strategy.l2_lambda for merge in launch.merges]
        penalty_K = functional.l2_penalty(
            difference_KBTD,
            torch.tensor(lambdas, dtype=x_KBTD.dtype, device=x_KBTD.device),
            reduction=reduction,
            valid_frames=launch.valid_KBT,
            packed=True,
            own_frames=launch.own_KBT,
            num_rows=launch.num_own_rows_K,
        )
        launch.penalties.append(penalty_K)
    return result_KBTD


def _with_noise(launch: Launch, output_KBTD: Tensor, depth_fraction: float) -> Tensor:
    keeps = [merge.keep_probability(depth_fraction) for merge in launch.merges]
    if all(keep == 1.0 for keep in keeps):
        return output_KBTD
    dtype, device = output_KBTD.dtype, output_KBTD.device
    noise = functional.draw_packed_noise(
        output_KBTD.shape,
        keeps,
        [merge.generator for merge in launch.merges],
        drop=[merge.strategy.drop for merge in launch.merges],
        num_rows=[merge.num_own_rows for merge in launch.merges],
        dtype=dtype,
        device=device,
    )
    return functional.stochastic_depth(output_KBTD, noise, torch.tensor(keeps, dtype=dtype, device=device))


def merge_return_result(launch: Launch, x_KBTD: Tensor, run: Run, depth_fraction: float) -> Tensor:
    """See ReturnResultAdapterStrategy."""
    return run(x_KBTD)


MERGES: dict[type, Callable[[Launch, Tensor, Run, float], Tensor]] = {
    ResidualAddAdapterStrategy: merge_residual_add,
    ReturnResultAdapterStrategy: merge_return_result,
}
"""Strategy -> its packed form; exactly these classes, as a subclass may do anything."""
