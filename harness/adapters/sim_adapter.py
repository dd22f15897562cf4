"""SimAdapter: a fusion whose members keep their residual, and whose attention is guided to one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.adapters import merging
from harness.adapters.fusion import SELF, AdapterFusion, checked_amount
from harness.adapters.strategies.fusion import FusionStrategyConfig
from harness.adapters.strategies.host import fraction_of
from harness.instantiate import target_of

OPTIONS: dict[str, tuple[Any, ...]] = {"guide_schedule": ("constant", "linear"), "with_self": (False, True)}


class SimAdapter(AdapterFusion):
    """SimAdapter (Hou et al. 2022, arXiv 2105.11905): attention of each step over several adapters, guided to one.

    `result = sum_n softmax_n((x Q) . (a_n K) / tau) a_n V`, with a_n = x + adapter_n(x); no residual is added after.
    The authors' code divides by sqrt(tau), which is the same with its tau of 1, and adds the normalised input of the
    feed-forward part, which is not in the paper and not here. Q and K start as torch.nn.Linear's, V as AdapterFusion's.

    The auxiliary loss of a step is, for each insertion point, `pull_weight * sum (I - V)^2`, plus `guide_weight` times
    the cross-entropy of the logits exp(p) with the guide's index, p [N] being the mean attention over the valid frames
    of the batch. (The authors' code counts padded frames too.)

    Args:
        in_features: D, the width of input and output.
        over: names of the adapters that are merged, all at the same insertion point.
        tau: the temperature, > 0.
        with_self: whether the input itself, as from no adapter, is one more member, called `self`.
        guide: the member that the attention is drawn to, usually the target's; None for no guide loss.
        guide_weight: of the guide loss, >= 0.
        guide_schedule: "constant", or "linear": the weight falls to 0 over the training (needs
            `module.training_progress`).
        pull_weight: how strongly V is held near the identity.
        adapter_strategy: FusionStrategy with the residual in the members if None.

    Raises:
        ValueError: a size, weight or name out of range.
    """

    def __init__(
        self,
        in_features: int,
        over: Sequence[str],
        tau: float = 1.0,
        with_self: bool = False,
        guide: str | None = None,
        guide_weight: float = 0.1,
        guide_schedule: str = "constant",
        pull_weight: float = 0.01,
        adapter_strategy: Any = None,
    ) -> None:
        self.with_self = bool(with_self)
        super().__init__(in_features, over, pull_weight, adapter_strategy)
        self.tau = checked_amount("tau", tau)
        if self.tau == 0.0:
            raise ValueError("tau has to be above 0, but got 0")
        if self.with_self and SELF in self.over:
            raise ValueError(f"over: an adapter cannot be called `{SELF}` with with_self=True: {list(self.over)}")
        if guide is not None and guide not in self.members:
            raise ValueError(f"guide has to be one of {', '.join(self.members)}, but got {guide!r}")
        schedules = OPTIONS["guide_schedule"]
        if guide_schedule not in schedules:
            raise ValueError(f"guide_schedule has to be one of {', '.join(schedules)}, but got {guide_schedule!r}")
        self.guide, self.guide_schedule = guide, guide_schedule
        self.guide_weight = checked_amount("guide_weight", guide_weight)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the first weights."""
        self.query.reset_parameters()
        self.key.reset_parameters()
        self.reset_value()

    def get_default_strategy_config(self) -> Any:
        """The residual is in the members."""
        return FusionStrategyConfig(residual="members")

    def reads_padding(self, training: bool) -> bool:
        """See AdapterFusion."""
        return False

    def guidance(self, attention: Tensor, valid_frames: Tensor | None, module: Any) -> Tensor | None:
        """See AdapterFusion.

        Raises:
            ValueError: the schedule is linear, and the host was not told which share of the training is done.
        """
        if self.guide is None or self.guide_weight <= 0.0:
            return None
        left = 1.0
        if self.guide_schedule == "linear":
            left -= fraction_of(module, "training_progress", "guide_schedule")
        if left <= 0.0:
            return None
        mean = merging.mean_over_frames(attention, valid_frames)
        return self.guide_weight * left * merging.guide_loss(mean, self.members.index(self.guide))


@dataclass
class SimAdapterConfig:
    """Config of SimAdapter; fields as its arguments."""

    in_features: int
    over: Sequence[str]
    tau: float = 1.0
    with_self: bool = False
    guide: str | None = None
    guide_weight: float = 0.1
    guide_schedule: str = "constant"
    pull_weight: float = 0.01
    adapter_strategy: Any | None = field(default_factory=partial(FusionStrategyConfig, residual="members"))
    _target_: str = target_of(SimAdapter)
