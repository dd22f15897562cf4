"""Which classes a config may build: adapters, strategies, and modules that are parts of them."""

from __future__ import annotations

from torch import nn

from harness.adapters.nemo_bridge import strategy_classes


def adapter_kind(key: str, cls: type) -> str | None:
    """The kind of an adapter's config (harness.instantiate.Kind): a module, its strategy, and modules as its parts."""
    if key == "adapter_strategy":
        return strategy_kind(key, cls)
    if issubclass(cls, nn.Module) or (key and issubclass(cls, strategy_classes())):
        return None
    if cls.__module__.partition(".")[0] == "peft":
        return "an adapter of harness (a config of PEFT goes into `adapter` of a trial, by itself)"
    return "an adapter (a class below torch.nn.Module)" if not key else "a module or a strategy"


def strategy_kind(key: str, cls: type) -> str | None:
    """The kind of a strategy's config: a strategy, ours or NeMo's, and modules or strategies as parts of it."""
    if issubclass(cls, strategy_classes()) or (key not in ("", "adapter_strategy") and issubclass(cls, nn.Module)):
        return None
    return "a strategy (a class below harness.adapters.AbstractAdapterStrategy)"
