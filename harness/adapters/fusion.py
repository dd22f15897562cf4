"""AdapterFusion: an adapter module that learns, at each insertion point, how to merge other adapters.

The members are adapters of the same insertion point, trained before and frozen, and disabled, so that they run through
the fusion alone. FusionStrategy runs them and hands their outputs over:

    add_adapter("en", ...), add_adapter("fr", ...)               # the members; set_enabled_adapters(name, False)
    add_adapter("fusion", AdapterFusionConfig(D, over=["en", "fr"]))

Parameters: 3 D^2 + 2 D at each insertion point, however many members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters import merging
from harness.adapters.access import ADAPTER_LOSS
from harness.adapters.attention_mean import AttentionMean
from harness.adapters.linear import AdapterModuleUtil
from harness.adapters.strategies.fusion import FusionStrategyConfig
from harness.adapters.strategies.members import check_names
from harness.instantiate import target_of

SELF = "self"


class AdapterFusion(nn.Module, AdapterModuleUtil):
    """AdapterFusion (Pfeiffer et al. 2021, arXiv 2005.00247): attention of each step over several adapters' outputs.

    `s = softmax_n((x Q) . (z_n K))`, `result = x + sum_n s_n z_n V`, with z_n = adapter_n(x). One head, no 1 / sqrt(D).
    Q and K have a bias and start as N(0, 0.02) and 0, as in the package `adapters`; V has none and starts with 1 on its
    diagonal and 1e-6 beside it. The auxiliary loss of a step is `pull_weight * sum (I - V)^2` for each insertion point.

    Args:
        in_features: D, the width of input and output.
        over: names of the adapters that are merged, at least two, all at the same insertion point.
        pull_weight: how strongly V is held near the identity; 0.01 in the paper's code.
        adapter_strategy: FusionStrategy if None.

    Raises:
        ValueError: a width below 1, names that are none, or a negative weight.
    """

    tau = 1.0
    with_self = False
    guide: str | None = None

    def __init__(
        self, in_features: int, over: Sequence[str], pull_weight: float = 0.01, adapter_strategy: Any = None
    ) -> None:
        super().__init__()
        if not isinstance(in_features, int) or in_features < 1:
            raise ValueError(f"in_features has to be a whole number of at least 1, but got {in_features!r}")
        self.over = check_names(over, least=2 - self.with_self)
        self.pull_weight = checked_amount("pull_weight", pull_weight)
        self.query = nn.Linear(in_features, in_features)
        self.key = nn.Linear(in_features, in_features)
        self.value = nn.Linear(in_features, in_features, bias=False)
        self.watcher: AttentionMean | None = None
        self.setup_adapter_strategy(adapter_strategy)
        self.reset_parameters()

    @property
    def members(self) -> tuple[str, ...]:
        """What the attention weights are of, in their order."""
        return (*self.over, SELF) if self.with_self else self.over

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the first weights."""
        for layer in (self.query, self.key):
            layer.weight.normal_(std=0.02)
            layer.bias.zero_()
        self.reset_value()

    @torch.no_grad()
    def reset_value(self) -> None:
        """V: 1 on the diagonal, 1e-6 beside it."""
        self.value.weight.fill_(1e-6).fill_diagonal_(1.0)

    def get_default_strategy_config(self) -> Any:
        """The residual is added after."""
        return FusionStrategyConfig()

    def reads_padding(self, training: bool) -> bool:
        """See AdapterModuleUtil: each step is merged by itself, and the guide averages over valid frames."""
        return False

    def forward(self, query: Tensor, members: Tensor) -> Tensor:
        """The merged members, [..., D], without a residual; see `attend`."""
        return self.attend(query, members)[0]

    def attend(self, query: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
        """Merge members [..., N, D] by the attention of a query [..., D]: the result [..., D], the weights [..., N]."""
        return merging.attend(
            query,
            members,
            query_weight=self.query.weight,
            query_bias=self.query.bias,
            key_weight=self.key.weight,
            key_bias=self.key.bias,
            value_weight=self.value.weight,
            tau=self.tau,
        )

    def take_attention(self, attention: Tensor, module: Any) -> None:
        """Register the auxiliary loss of a pass, in training; and let who watches the attention have it.

        Nothing is registered where V is frozen, or if `access_cfg` says `compute_adapter_loss: False`.

        Args:
            attention: the weights, [..., N].
            module: the host.
        """
        valid = getattr(module, "valid_frames", None)
        if self.watcher is not None:
            self.watcher.add(attention, valid)
        learns = self.value.weight.requires_grad and self.access_cfg.get("compute_adapter_loss", True)
        if not module.training or not learns:
            return
        self.set_access_enabled(access_enabled=True, guid=getattr(self, "model_guid", None))
        # A layer that runs several times in a pass (ALBERT) has several attentions, but only one V to hold.
        is_first = not vars(self).get("_registry", {}).get(ADAPTER_LOSS)
        losses = [self.guidance(attention, valid, module)]
        if is_first and self.pull_weight > 0.0:
            losses.append(self.pull_weight * merging.distance_to_identity(self.value.weight))
        for loss in losses:
            if loss is not None:
                self.register_accessible_tensor(name=ADAPTER_LOSS, tensor=loss)

    def guidance(self, attention: Tensor, valid_frames: Tensor | None, module: Any) -> Tensor | None:
        """The guide loss of a pass of a host, with its weight; None without a guide."""
        return None

    def extra_repr(self) -> str:
        """Shown by `print(model)`."""
        return f"over={list(self.over)}"


def checked_amount(name: str, value: Any) -> float:
    """An amount as a float.

    Raises:
        ValueError: no finite number of at least 0.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value < float("inf"):
        raise ValueError(f"{name} has to be a finite number and at least 0, but got {value!r}")
    return float(value)


@dataclass
class AdapterFusionConfig:
    """Config of AdapterFusion; fields as its arguments."""

    in_features: int
    over: Sequence[str]
    pull_weight: float = 0.01
    adapter_strategy: Any | None = field(default_factory=FusionStrategyConfig)
    _target_: str = target_of(AdapterFusion)
