"""The backbone with a trial axis: frozen layers slot by slot, adapters and head with weights [K, ...].

Activations run as [K * B, T, D] through the backbone's own modules. Its linear layers multiply slot by slot (a batched
product with one shared weight) instead of all rows at once, so that a slot's bits do not depend on how many there are.

Shape legend: K slots, B rows, T steps, D width, I and O input and output width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters import InsertionPoint, functional
from harness.backbones.model import TaskModel
from harness.training.adapting import ADAPTER_NAME
from harness.training.packed.merging import MERGES, SlotMerge
from harness.training.packed.packable import Family


@dataclass
class Launch:
    """What one pass works on.

    Attributes:
        num_rows: B, of each slot, those that are only padding included.
        valid_KBT: real steps of real rows.
        own_KBT: steps and rows of the slots' own batches, which NeMo's l2 sum counts; None where they are all.
        num_own_rows_K: rows of the slots' own batches.
        merges: the slots' strategies; empty when scoring: no noise and no penalty.
        penalty: (what is penalised, reduction), or None when no slot has a penalty.
        weights: what learns, by name, [K, ...].
        penalties: filled by the pass: [K] each.
    """

    num_slots: int
    num_rows: int
    valid_KBT: Tensor
    own_KBT: Tensor | None
    num_own_rows_K: Tensor
    merges: Sequence[SlotMerge]
    penalty: tuple[str, str] | None
    weights: Mapping[str, Tensor]
    penalties: list[Tensor] = field(default_factory=list)


class Current:
    """Where the modules find the launch under way."""

    launch: Launch


class SlotLinear(nn.Linear):
    """A linear layer that multiplies slot by slot: frozen weights that all slots share, or learnt ones [K, O, I]."""

    current: Current
    learnt: str | None = None  # the prefix of its weights' names

    def forward(self, x: Tensor) -> Tensor:
        """[K * B, ..., I] -> [K * B, ..., O]."""
        launch = self.current.launch
        count = launch.num_slots
        rows_KRI = x.reshape(count, -1, self.in_features)
        if self.learnt is None:
            weight_KIO = self.weight.t().expand(count, -1, -1)
            bias_K1O = None if self.bias is None else self.bias.expand(count, 1, -1)
        else:
            weight_KIO = launch.weights[f"{self.learnt}.weight"].transpose(1, 2)
            bias_K1O = launch.weights[f"{self.learnt}.bias"].unsqueeze(1)
        product = torch.bmm(rows_KRI, weight_KIO) if bias_K1O is None else torch.baddbmm(bias_K1O, rows_KRI, weight_KIO)
        return product.reshape(*x.shape[:-1], self.out_features)


class SlotConvolution(nn.Module):
    """A frozen convolution, run slot by slot: its kernels are chosen, and its sums cut, by the number of rows."""

    def __init__(self, inner: nn.Module, current: Current) -> None:
        super().__init__()
        self.inner, self.current = inner, current

    def forward(self, x: Tensor) -> Tensor:
        """[K * B, channels, ...] -> [K * B, channels, ...]."""
        return torch.cat([self.inner(part) for part in torch.chunk(x, self.current.launch.num_slots)])


class PackedAdapter(nn.Module):
    """The adapters of all slots at one insertion point, as one adapter that is its own strategy."""

    def __init__(self, current: Current, prefix: str, family: Family, depth_fraction: float) -> None:
        super().__init__()
        assert family.adapters is not None
        _, _, self.norm_position, activation, self.eps, strategy = family.adapters
        self.current, self.depth_fraction = current, depth_fraction
        self.activation = activation()
        self.merge = MERGES[strategy]
        order = (0, 1, 3) if self.norm_position == "pre" else (3, 0, 2)
        self.norm, self.down, self.up = (f"{prefix}.module.{number}" for number in order)

    def adapter_strategy(self, x: Tensor, adapter: nn.Module, *, module: Any) -> Tensor:
        """Run the slots' adapters and merge their outputs, [K * B, T, D]."""
        launch = self.current.launch
        merged_KBTD = self.merge(
            launch, x.reshape(launch.num_slots, launch.num_rows, *x.shape[1:]), self._run, self.depth_fraction
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
    """

    def __init__(self, frozen: TaskModel, family: Family) -> None:
        self.cut = family.cut
        self.current = Current()
        shared = {id(weight): weight for weight in (*frozen.parameters(), *frozen.buffers())}
        self.model = copy.deepcopy(frozen, shared).eval()
        _replace_layers(self.model, self.current)
        paths = [(path, module) for path, module in self.model.named_modules() if isinstance(module, InsertionPoint)]
        for layer in family.layers:
            path, point = paths[layer]
            prefix = f"{path}.adapter_layer.{ADAPTER_NAME}"
            packed = PackedAdapter(self.current, prefix, family, (layer + 1) / len(paths))
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


def _replace_layers(model: nn.Module, current: Current) -> None:
    """Linear layers and convolutions by those that work slot by slot; all others work row by row."""
    for parent in [*model.modules()]:
        for name, child in [*parent.named_children()]:
            if type(child) is nn.Linear:
                layer = SlotLinear(child.in_features, child.out_features, bias=child.bias is not None, device="meta")
                layer.weight, layer.bias, layer.current = child.weight, child.bias, current
                setattr(parent, name, layer)
            elif isinstance(child, (nn.Conv1d, nn.Conv2d)):
                setattr(parent, name, SlotConvolution(child, current))
