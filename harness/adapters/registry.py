"""All adapter types by name. To add one: write its file, and add its config here."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any

from harness.adapters.across_steps import ConvolutionConfig, TinyAttentionConfig
from harness.adapters.linear import LinearAdapterConfig
from harness.adapters.lora import LoRAConfig
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
}
"""Short name -> config dataclass; its `_target_` is the adapter."""


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


def _is_allowed(target: Any, allow: Collection[str | type]) -> bool:
    if not isinstance(target, str):
        return False
    registered = {
        field.default
        for entry in (*ADAPTERS.values(), *STRATEGIES.values())
        for field in dataclasses.fields(entry)
        if field.name == TARGET_KEY
    }
    if target in registered or target in {item if isinstance(item, str) else target_of(item) for item in allow}:
        return True
    package = __package__ or ""
    short = target.removeprefix(f"{package}.").isidentifier()  # `harness.adapters.Name`
    return short and target.startswith(f"{package}.") and target_of(locate(target)) in registered
