"""The backbone with a trial axis: frozen layers slot by slot, adapters and head with weights [K, ...].

Activations run as [K * B, T, D] through the backbone's own modules, made to work slot by slot (cut/slot_layers.py).

Shape legend: K slots, B rows, T steps, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from harness.adapters.packed import PackedAdapter, PackedCall, PackedStrategy
from harness.backbones.model import TaskModel
from harness.engines.cut.slot_layers import Current, slotwise
from harness.engines.packed.launch import Launch, PackKind
from harness.engines.packed.layout import Layout
from harness.engines.packed.unpadded import can_unpad


class PackPoint(nn.Module):
    """The adapters of all slots at one insertion point, as one adapter that is its own strategy.

    Args:
        current: tells the pass under way.
        adapter: the form of the adapters.
        strategy: the form of their strategies.
        names: of the weights in the adapter -> in the model.
        number: of the point, counted over those with adapters.
    """

    def __init__(
        self,
        current: Current[Launch],
        adapter: PackedAdapter,
        strategy: PackedStrategy,
        names: Mapping[str, str],
        number: int,
    ) -> None:
        super().__init__()
        self.current, self.adapter, self.strategy, self.names, self.number = current, adapter, strategy, names, number

    def adapter_strategy(self, x: Tensor, adapter: nn.Module, *, module: Any) -> Tensor:
        """Run the slots' adapters and merge their outputs, [K * B, T, D]."""
        launch = self.current.launch
        shape = (launch.num_slots, launch.num_rows)
        reads = getattr(adapter, "reads", None)  # beside a module, an adapter reads another tensor than x
        reads_KBTD = None if reads is None else reads.reshape(*shape, *reads.shape[1:])
        call = PackedCall(
            run=self._run if reads_KBTD is None else lambda _: self._run(reads_KBTD),
            training=launch.training,
            variant=launch.variant,
            options=launch.options,
            noise=launch.noise_L[self.number] if launch.noise_L else None,
            keep_K=launch.keeps_L[self.number] if launch.noise_L else None,
            valid_KBT=launch.valid_KBT,
            own_KBT=launch.own_KBT,
            num_own_rows_K=launch.num_own_rows_K,
            penalties=launch.penalties,
        )
        merged_KBTD = self.strategy.merge(call, x.reshape(*shape, *x.shape[1:]))
        return merged_KBTD.flatten(0, 1)

    def _run(self, x_KBTD: Tensor) -> Tensor:
        weights = self.current.launch.weights
        return self.adapter.run({name: weights[path] for name, path in self.names.items()}, x_KBTD)


class PackedModel:
    """The part of a backbone behind a pack's cut, for any number of slots.

    Args:
        frozen: the base model on the device, in the dtype; its weights are shared, not copied.
        kind: of the trials.
        layout: of their weights.

    Attributes:
        depth_fractions: (layer + 1) / number of layers, of those with adapters.
        can_unpad: whether its layers may run on real steps alone.
    """

    def __init__(self, frozen: TaskModel, kind: PackKind, layout: Layout) -> None:
        self.cut, self.width = kind.cut, frozen.encoder.dim
        self.current: Current[Launch] = Current()
        self.model = slotwise(frozen, self.current)
        encoder = self.model.encoder
        # Points inside of layers would be handed steps without padding; only a processor promises bits.
        is_between = kind.device == "cpu" and all(place.how == "layer" for place in kind.places)
        self.can_unpad = is_between and can_unpad(encoder, self.current, self.cut.layer)
        encoder.put_points(kind.places)  # after `slotwise`, which replaces linear modules, and their hooks with them
        self.depth_fractions = [(place.layer + 1) / encoder.num_layers for place in kind.places]
        for number, place in enumerate(kind.places):
            assert kind.adapter is not None and kind.strategy is not None
            point = encoder.insertion_points[place.name]
            names = layout.names_below(f"encoder.{place.name}.adapter_layer.{kind.name}.")
            packed = PackPoint(self.current, kind.adapter, kind.strategy, names, number)
            point.adapter_layer = nn.ModuleDict({kind.name: packed})
            point.adapter_cfg = {kind.name: {"enabled": True}}
        if kind.trains_head:
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
        assert launch.real is None or self.can_unpad
        hidden_BTD = self.model.encoder.forward_from(x_KBTD.flatten(0, 1), valid_BT, self.cut.layer)
        return self.model.head(hidden_BTD, valid_BT), valid_BT
