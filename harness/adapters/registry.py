"""All adapter types by name. To add one: write its file, and add its config here."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any

from harness.adapters.across_steps import ConvolutionConfig, TinyAttentionConfig
from harness.adapters.fusion import AdapterFusionConfig
from harness.adapters.gated import GatedConfig
from harness.adapters.linear import LinearAdapterConfig
from harness.adapters.lora import LoRAConfig
from harness.adapters.sim_adapter import SimAdapterConfig
from harness.adapters.strategies import STRATEGIES
from harness.adapters.vectors import BitFitConfig, IA3Config
from harness.instantiate import TARGET_KEY, locate, target_of

ADAPTERS: dict[str, type] = {
    "linear": LinearAdapterConfig,
    "lora": LoRAConfig,
    "ia3": IA3Config,
    "bitfit": BitFitConfig,
    "tiny_attention": TinyAttentionConfig,
    "convolution": ConvolutionConfig,
    "gated": GatedConfig,
}
"""Short name -> config dataclass; its `_target_` is the adapter."""

FUSIONS: dict[str, type] = {
    "adapter_fusion": AdapterFusionConfig,
    "sim_adapter": SimAdapterConfig,
}
"""Modules that learn to merge several adapters; as ADAPTERS. They have no use without the adapters that they merge."""


def unregistered_targets(config: Any, allow: Collection[str | type] = ()) -> Iterator[Any]:
    """The `_target_`s of a config, at any depth, that are neither registered here nor allowed. Imports nothing of them.

    Args:
        config: plain dicts and lists, of a file that somebody else may have written.
        allow: further classes, or their import paths as the file has them.
    """
    if isinstance(config, (list, tuple)):
        for item in config:
            yield from unregistered_targets(item, allow)
    if not isinstance(config, dict):
        return
    if TARGET_KEY in config and not _is_allowed(config[TARGET_KEY], allow):
        yield config[TARGET_KEY]
    for value in config.values():
        yield from unregistered_targets(value, allow)


def registered_config(target: Any) -> type | None:
    """The config dataclass, registered here, of a class that a file names; None: it is not registered, or no path."""
    if not isinstance(target, str):
        return None
    registered: dict[Any, type] = {}
    entries: list[Any] = [*ADAPTERS.values(), *STRATEGIES.values(), *FUSIONS.values()]
    for entry, field in ((one, field) for one in entries for field in dataclasses.fields(one)):
        if field.name == TARGET_KEY:
            registered[field.default] = entry
        elif field.default_factory is not dataclasses.MISSING:
            # The strategy that a config has when none is given: a fusion's own is registered nowhere else.
            made = field.default_factory()
            registered.setdefault(getattr(made, TARGET_KEY, None), type(made))
    package = __package__ or ""
    short = target.startswith(f"{package}.") and target.removeprefix(f"{package}.").isidentifier()
    if target not in registered and short:  # `harness.adapters.Name`
        target = target_of(locate(target))
    return registered.get(target)


def _is_allowed(target: Any, allow: Collection[str | type]) -> bool:
    if not isinstance(target, str):
        return False
    named = {item if isinstance(item, str) else target_of(item) for item in allow}
    return target in named or registered_config(target) is not None
