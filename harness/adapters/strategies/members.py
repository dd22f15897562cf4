"""How a strategy runs the other adapters of its host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.adapters.strategies.return_result import ReturnResultAdapterStrategy

_ALONE = ReturnResultAdapterStrategy()


def member_outputs(names: Sequence[str], input: Tensor, *, module: Any, own: Any) -> list[Tensor]:
    """What other adapters of a host give for one input, each by itself, enabled or not.

    Each is run as `adapter(input)`: the residual, noise and penalty of its own strategy are left out, because the
    strategy that merges the members says what becomes of their outputs. Beside a module they read what it reads.

    Args:
        names: of adapters in `module.adapter_layer`.
        input: [..., D].
        module: the host.
        own: the adapter whose strategy asks.

    Returns:
        N outputs, [..., D].

    Raises:
        ValueError: the host has no adapter of a name, or it is the one that asks, or one that merges others itself.
    """
    layer = getattr(module, "adapter_layer", {})
    outputs = []
    for name in names:
        if name not in layer:
            there = ", ".join(sorted(layer)) or "none"
            raise ValueError(f"over: no adapter `{name}` at this insertion point; there are: {there}")
        if layer[name] is own or layer[name] is getattr(own, "adapter", None):  # the second: beside a module
            raise ValueError(f"over: `{name}` is the adapter itself; name the others")
        if hasattr(layer[name], "take_attention"):
            raise ValueError(f"over: `{name}` merges other adapters itself, so it cannot be merged with others")
        run = module.forward_single_enabled_adapter_
        outputs.append(run(input, layer[name], adapter_name=name, adapter_strategy=_ALONE))
        if hasattr(module, "count_adapter_call_"):  # not a host of NeMo
            module.count_adapter_call_(name)
    return outputs


def check_names(over: Any, least: int) -> tuple[str, ...]:
    """The names in `over`.

    Raises:
        ValueError: no list of distinct names, or fewer than `least`.
    """
    names = tuple(over) if isinstance(over, Sequence) and not isinstance(over, str) else ()  # hydra gives no list
    if len(names) < least or len(set(names)) != len(names) or not all(isinstance(n, str) and n for n in names):
        raise ValueError(f"over has to be a list of at least {least} distinct names of adapters, but got {over!r}")
    return names


def stack(outputs: Sequence[Tensor]) -> Tensor:
    """[..., N, D]."""
    return torch.stack(list(outputs), dim=-2)
