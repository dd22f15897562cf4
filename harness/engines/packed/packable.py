"""Which trials can be packed, and which of them may share a launch.

A pack computes a strategy or an adapter with a trial axis, so it knows the shipped classes only, and exactly those: a
subclass may do anything. What cannot be packed trains alone, behind its cut where it has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from harness.adapters import LinearAdapter, ResidualAddAdapterStrategy
from harness.adapters.strategies.abstract import target_of
from harness.backbones.model import TaskModel
from harness.config.trial import LoopSettings
from harness.engines.cut.cut import Cut, enabled_adapters
from harness.engines.packed.merging import MERGES

PACKED_ADAPTERS: tuple[type[nn.Module], ...] = (LinearAdapter,)
PACKED_STRATEGIES: tuple[type, ...] = tuple(MERGES)
BFLOAT16_DEVICES = ("cuda",)  # elsewhere packs promise bits, and products of bfloat16 are not known to keep them
WIDTHS = (8, 16, 32, 64, 128, 256, 512, 1024)  # bottlenecks are padded to the next of these


@dataclass(frozen=True)
class Family:
    """What trials of one pack have in common. `adapters` describes one layer's adapter (None: the head alone)."""

    backbone: str
    device: str
    precision: str
    threads: int
    cut: Cut
    layers: tuple[int, ...]
    adapters: tuple[Any, ...] | None
    trains_head: bool


def why_not_packable(model: TaskModel, loop: LoopSettings) -> str | None:
    """Why a trial cannot be part of a pack; None when it can.

    Args:
        model: adapted.
        loop: the trial's settings.
    """
    device = loop.device.partition(":")[0]
    if loop.precision == "bfloat16" and device not in BFLOAT16_DEVICES:
        return f"bfloat16 on a {device}: its bits may depend on how many trials share a step"
    for adapter in enabled_adapters(model):
        strategy = adapter.adapter_strategy
        if type(adapter) not in PACKED_ADAPTERS:
            return f"adapter {target_of(type(adapter))} has no packed form"
        if adapter.dropout is not None:
            return "adapter.dropout draws from torch's global generator"
        if type(strategy) not in PACKED_STRATEGIES:
            return f"strategy {target_of(type(strategy))} has no packed form"
        if not adapter.access_cfg.get("compute_adapter_loss", True):
            return "access_cfg switches the adapter loss off"
    points = model.encoder.insertion_points.values()
    if any(len(point.get_enabled_adapters()) > 1 for point in points):
        return "a layer has more than one adapter"
    return None


def family_of(model: TaskModel, backbone: str, loop: LoopSettings, cut: Cut) -> Family:
    """The family of a packable trial.

    Args:
        model: adapted.
        backbone: its fingerprint.
        loop: the trial's settings.
        cut: of the trial.
    """
    points = list(model.encoder.insertion_points.values())
    layers = tuple(number for number, point in enumerate(points) if point.get_enabled_adapters())
    adapters = enabled_adapters(model)
    kinds = {_kind(adapter) for adapter in adapters}
    assert len(kinds) <= 1, "one trial has one adapter config"
    trains_head = any(weight.requires_grad for weight in model.head.parameters())
    kind = next(iter(kinds), None)
    return Family(backbone, loop.device, loop.precision, loop.threads, cut, layers, kind, trains_head)


def _kind(adapter: Any) -> tuple[Any, ...]:
    """What changes the graph: not the numbers that a slot has for itself."""
    down = _down(adapter)
    layers = list(adapter.module)
    norm = layers[0] if adapter.norm_position == "pre" else layers[3]
    activation = next(layer for layer in layers if not isinstance(layer, (nn.Linear, nn.LayerNorm)))
    width = padded_width(down.out_features)
    return (type(adapter), width, adapter.norm_position, type(activation), norm.eps, type(adapter.adapter_strategy))


def _down(adapter: Any) -> nn.Linear:
    return next(layer for layer in adapter.module if isinstance(layer, nn.Linear))


def padded_width(width: int) -> int:
    """The bottleneck width that a width is padded to."""
    return next((bucket for bucket in WIDTHS if bucket >= width), -(-width // WIDTHS[-1]) * WIDTHS[-1])


def penalty_of(model: TaskModel) -> tuple[str, str] | None:
    """(what is penalised, reduction) of a trial's l2 penalty; None without one, which goes with any."""
    for adapter in enabled_adapters(model):
        strategy = adapter.adapter_strategy
        if isinstance(strategy, ResidualAddAdapterStrategy) and strategy.l2_lambda > 0.0:
            return strategy.l2_target, strategy.l2_reduction
    return None
