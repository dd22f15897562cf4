"""The backbone with a trial axis: frozen layers slot by slot, adapters and head with weights [K, ...].

Activations run as [K * B, T, D] through the backbone's own modules, made to work slot by slot (slot_layers.py).

Shape legend: K slots, B rows, T steps, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from harness.adapters import InsertionPoint, functional
from harness.backbones.model import TaskModel
from harness.engines.packed.merging import MERGES
from harness.engines.packed.packable import Family
from harness.engines.packed.slot_layers import Current, slotwise
from harness.training.adapting import ADAPTER_NAME


@dataclass
class Launch:
    """What one pass works on.

    Attributes:
        num_rows: B, of each slot, those that are only padding included.
        valid_KBT: real steps of real rows.
        own_KBT: steps and rows of the slots' own batches, which NeMo's l2 sum counts; None where they are all.
        num_own_rows_K: rows of the slots' own batches.
        penalty: (what is penalised, reduction), or None when no slot has a penalty, and when scoring.
        lambdas_K: weights of the penalties; read where there is a penalty.
        noise_L: of each layer with adapters, what is kept; empty where nothing is dropped, and when scoring.
        keeps_L: [K] each, the probabilities of keeping that the noise was drawn with.
        weights: what learns, by name, [K, ...].
        penalties: filled by the pass: [K] each.
    """

    num_slots: int
    num_rows: int
    valid_KBT: Tensor
    own_KBT: Tensor | None
    num_own_rows_K: Tensor
    penalty: tuple[str, str] | None
    lambdas_K: Tensor | None = None
    noise_L: Sequence[Tensor] = ()
    keeps_L: Sequence[Tensor] = ()
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    penalties: list[Tensor] = field(default_factory=list)


class PackedAdapter(nn.Module):
    """The adapters of all slots at one insertion point, as one adapter that is its own strategy."""

    def __init__(self, current: Current[Launch], prefix: str, family: Family, number: int) -> None:
        super().__init__()
        assert family.adapters is not None
        _, _, self.norm_position, activation, self.eps, strategy = family.adapters
        self.current, self.number = current, number
        self.activation = activation()
        self.merge = MERGES[strategy]
        order = (0, 1, 3) if self.norm_position == "pre" else (3, 0, 2)
        self.norm, self.down, self.up = (f"{prefix}.module.{number}" for number in order)

    def adapter_strategy(self, x: Tensor, adapter: nn.Module, *, module: Any) -> Tensor:
        """Run the slots' adapters and merge their outputs, [K * B, T, D]."""
        launch = self.current.launch
        merged_KBTD = self.merge(
            launch, x.reshape(launch.num_slots, launch.num_rows, *x.shape[1:]), self._run, self.number
        )
        return merged_KBTD.flatten(0, 1)

    def _run(self, x_KBTD: Tensor) -> Tensor:
        weights = self.current.launch.weights
        return functional.bottleneck(
            x_KBTD,
            norm_weight=weights[f"{self.norm}.weight"],
            norm_bias=weights[f"{self.norm}.bias"],
            down=weights[f"{self.down}.weight"],
            up=weights[f"{self.up}.weight"],
            activation=self.activation,
            norm_position=self.norm_position,
            eps=self.eps,
        )


class PackedModel:
    """The part of a backbone behind a family's cut, for any number of slots.

    Args:
        frozen: the base model on the device, in the dtype; its weights are shared, not copied.
        family: of the trials.

    Attributes:
        depth_fractions: (layer + 1) / number of layers, of those with adapters.
    """

    def __init__(self, frozen: TaskModel, family: Family) -> None:
        self.cut, self.width = family.cut, frozen.encoder.dim
        self.current: Current[Launch] = Current()
        self.model = slotwise(frozen, self.current)
        paths = [(path, module) for path, module in self.model.named_modules() if isinstance(module, InsertionPoint)]
        self.depth_fractions = [(layer + 1) / len(paths) for layer in family.layers]
        for number, layer in enumerate(family.layers):
            path, point = paths[layer]
            prefix = f"{path}.adapter_layer.{ADAPTER_NAME}"
            packed = PackedAdapter(self.current, prefix, family, number)
            point.adapter_layer = nn.ModuleDict({ADAPTER_NAME: packed})
            point.adapter_cfg = {ADAPTER_NAME: {"enabled": True}}
        if family.trains_head:
            output: Any = self.model.head.output
            output.learnt = "head.output"

    def forward(self, launch: Launch, x_KBTD: Tensor, attended_KBT: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [K * B, ...] and the mask [K * B, T] that they were made with.

        Args:
            launch: whose pass it is.
            x_KBTD: what reached the cut.
            attended_KBT: real steps, at least one in every row (attention over nothing is NaN).
        """
        self.current.launch = launch
        valid_BT = attended_KBT.flatten(0, 1)
        hidden_BTD = self.model.encoder.forward_from(x_KBTD.flatten(0, 1), valid_BT, self.cut.layer)
        return self.model.head(hidden_BTD, valid_BT), valid_BT
