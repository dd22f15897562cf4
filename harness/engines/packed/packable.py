"""Which trials can be packed, and which of them may be in one pack.

An adapter or a strategy with a packed form declares it in its own class (harness/adapters/packed.py). What cannot be
packed trains alone, behind its cut where it has one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from harness.adapters.packed import PackedAdapter, PackedStrategy, packed_adapter, packed_strategy
from harness.backbones.model import TaskModel
from harness.config.trial import LoopSettings, OptimSettings
from harness.engines.cut.cut import Cut, enabled_adapters, learning_in_layers
from harness.engines.packed.launch import PackKind
from harness.engines.packed.layout import layout_of
from harness.instantiate import target_of
from harness.tasks.losses import LossOptions

BFLOAT16_DEVICES = ("cuda",)  # elsewhere packs promise bits, and products of bfloat16 are not known to keep them


def why_not_packable(model: TaskModel, loop: LoopSettings, optim: OptimSettings) -> str | None:
    """Why a trial cannot be part of a pack; None when it can.

    Args:
        model: adapted.
        loop, optim: the trial's settings.
    """
    if optim.name != "adamw":
        return f"optim.name: {optim.name}: a pack trains with AdamW"
    if optim.groups:
        return "optim.groups: a pack has one learning rate and one weight decay for all weights of a trial"
    if loop.accumulate > 1:
        return "loop.accumulate: a pack takes a step of the optimizer for each batch"
    for name in ("l2_sp", "kl_to_base"):
        if getattr(loop, name) is not None:
            return f"loop.{name}: a pack adds to a trial's loss what its strategies ask for, and nothing else"
    device = loop.device.partition(":")[0]
    if loop.precision == "bfloat16" and device not in BFLOAT16_DEVICES:
        return f"loop.precision: bfloat16 on a {device}: the results may depend on how many trials share a step"
    if model.encoder.why_not_packed is not None:
        return model.encoder.why_not_packed
    if model.encoder.injected is not None:
        return f"{model.encoder.injected.target} is PEFT's, and has no packed form"
    names = _names(model)
    if any(len(there) > 1 for there in names):
        return "a layer has more than one adapter"
    if len(set(names)) > 1:
        return "its layers have adapters of different names"
    if learning_in_layers(model):
        return "layers of the backbone learn, and a pack shares those between its trials"
    for adapter in enabled_adapters(model):
        if reason := _why_not(adapter):
            return reason
    if reason := getattr(model.head, "why_not_packed", None):
        return str(reason)
    head = {name for name, weight in model.head.named_parameters() if weight.requires_grad}
    if head and (head != {"output.weight", "output.bias"} or type(model.head.output) is not nn.Linear):
        return "the head is trained, and it is not a single linear layer named output"
    if head and any(isinstance(module, _DropoutNd) and module.p > 0 for module in model.head.modules()):
        return "the head is trained, and its dropout draws from torch's global generator"
    if head and any(True for _ in model.head.buffers()):
        return "the head is trained, and it has buffers"
    if model.encoder.repeats_layers and enabled_adapters(model):
        return "a pass of the encoder runs an adapter several times, and a pack draws noise for one run"
    if model.encoder.shares is not None:
        return "the shares of the layers on their way to the head are learnt, and a pack has no place for them"
    if len(_forms(model)) > 1:
        return "its layers have adapters with different packed forms"
    return None


def _why_not(adapter: Any) -> str | None:
    form = packed_adapter(adapter)
    if form is None:
        return f"adapter {target_of(type(adapter))} has no packed form"
    if reason := form.why_not(adapter):
        return reason
    strategy = packed_strategy(adapter.adapter_strategy)
    if strategy is None:
        return f"strategy {target_of(type(adapter.adapter_strategy))} has no packed form"
    if reason := strategy.why_not(adapter.adapter_strategy):
        return f"adapter.adapter_strategy: {reason}"
    if reason := _why_state(adapter):
        return reason
    if not getattr(adapter, "access_cfg", {}).get("compute_adapter_loss", True):
        return "access_cfg switches the adapter loss off"
    return None


def _why_state(adapter: nn.Module) -> str | None:
    """Why an adapter's state keeps it out of packs: they hold the weights that learn, and nothing else."""
    name = target_of(type(adapter))
    if buffers := [key for key, _ in adapter.named_buffers()]:
        return f"adapter {name} has the buffer {buffers[0]}, and a pack holds only weights that learn"
    if fixed := [key for key, weight in adapter.named_parameters() if not weight.requires_grad]:
        return f"adapter {name} does not train its weight {fixed[0]}, and a pack holds only weights that learn"
    return None


def pack_kind(model: TaskModel, backbone: str, loop: LoopSettings, cut: Cut, loss: LossOptions) -> PackKind:
    """The kind of pack that a packable trial can be in.

    Args:
        model: adapted.
        backbone: its fingerprint.
        loop: the trial's settings.
        cut: of the trial.
        loss: its task's options.
    """
    points, places = model.encoder.insertion_points, model.encoder.places_taken
    adapter, strategy = next(iter(_forms(model)), (None, None))
    return PackKind(
        backbone=backbone,
        device=loop.device,
        precision=loop.precision,
        threads=loop.threads,
        cut=cut,
        places=tuple(place for place in places if points[place.name].get_enabled_adapters()),
        name=next((names[0] for names in _names(model)), ""),
        adapter=adapter,
        strategy=strategy,
        layout=layout_of(model),
        trains_head=any(weight.requires_grad for weight in model.head.parameters()),
        loss=loss,
    )


def _forms(model: TaskModel) -> set[tuple[PackedAdapter, PackedStrategy]]:
    """The packed forms of a model's adapters and of their strategies: one pair, as one config makes all of them."""
    found = set()
    for adapter in enabled_adapters(model):
        form, strategy = packed_adapter(adapter), packed_strategy(adapter.adapter_strategy)
        assert form is not None and strategy is not None, "only packable trials are packed"
        found.add((form.of(adapter), strategy))
    return found


def _names(model: TaskModel) -> list[tuple[str, ...]]:
    """The names of the adapters at each point that has any, of those that do not run by themselves as well."""
    points = model.encoder.insertion_points.values()
    return [tuple(point.adapter_layer) for point in points if point.is_adapter_available()]


def variant_of(strategies: Sequence[Any], training: bool) -> Hashable | None:
    """The variant of a trial's strategies (PackedStrategy.variant); None goes with any.

    Args:
        strategies: of a packable trial, one a layer.
        training: rather than scoring.
    """
    for strategy in strategies:
        form = packed_strategy(strategy)
        if form is not None and (variant := form.variant(strategy, training)) is not None:
            return variant
    return None
