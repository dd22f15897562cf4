"""Freezing: a frozen module stays in eval mode and keeps its parameters, whatever `.train()` is called.

`model.train()` would otherwise switch on the dropout of frozen layers and let BatchNorm change its
statistics, and disabling the adapters would no longer give the base model back. A frozen module gets a
`train` of its own, in its instance `__dict__`: it answers eval, and passes the call on to its children.
It is no part of the state dict, and a deepcopy or a pickle carries it along.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import nn

_RECORD = "_state_before_freezing"


class _StayInEval:
    """The `train` method of a frozen module.

    It knows its module by a weak reference. With a strong one, each would hold the other: the memory of a model that
    nobody uses any more would wait for Python's search for such circles, which comes after dozens of trials.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = weakref.ref(module)

    @property
    def module(self) -> nn.Module:
        """The module that this is a method of."""
        module = self._module()
        assert module is not None, "a method is asked for through its module"
        return module

    def __call__(self, mode: bool = True) -> nn.Module:
        module = self.module
        module.training = False
        for child in module.children():
            child.train(mode)
        return module

    def __deepcopy__(self, memo: dict[int, Any]) -> _StayInEval:
        return _StayInEval(memo.get(id(self.module), self.module))

    def __reduce__(self) -> tuple[Any, ...]:
        return _StayInEval, (self.module,)


def freeze_backbone(model: nn.Module, *, trainable: Iterable[nn.Module] = ()) -> None:
    """Freeze everything but the adapters: parameters, and eval mode for good.

    Adapter hosts keep following `.train()`, because strategies ask `module.training`; so do adapters. A
    host's own parameters are frozen. Call it again after adding a host; what is frozen already stays so.

    Args:
        model: the model with its adapter hosts.
        trainable: modules, such as a new head, that stay trainable with all they contain.
    """
    free = _adapter_modules(model)
    for module in trainable:
        free.update(module.modules())
    kept = {id(p) for module in free for p in module.parameters(recurse=False)}  # also if tied to frozen ones
    for module in model.modules():
        if module not in free:
            _freeze(module, kept, eval_mode=not is_adapter_host(module))


def freeze_module(module: nn.Module) -> None:
    """Freeze a module with all that it contains, such as an adapter that is kept as it is."""
    for part in module.modules():
        _freeze(part, set(), eval_mode=True)


def unfreeze_backbone(model: nn.Module) -> None:
    """Undo `freeze_backbone` and `freeze_batchnorm_layers`.

    Parameters require gradients again if they did before, and `.train()` has its usual effect. Modules
    return to the mode they were in.
    """
    for module in model.modules():
        record = module.__dict__.pop(_RECORD, None)
        if record is None:
            continue
        if module.__dict__.pop("train", None) is not None:
            module.training = record["training"]
        for name, parameter in module.named_parameters(recurse=False):
            parameter.requires_grad_(record["requires_grad"].get(name, parameter.requires_grad))


def freeze_batchnorm_layers(model: nn.Module) -> list[str]:
    """Freeze every BatchNorm outside adapters, for good: eval mode, and no gradients.

    Returns:
        The dotted names of the frozen layers.
    """
    free = _adapter_modules(model)
    frozen = []
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module not in free:
            _freeze(module, set(), eval_mode=True)
            frozen.append(name)
    return frozen


def is_frozen(module: nn.Module) -> bool:
    """Whether the module ignores `.train()`."""
    return isinstance(module.__dict__.get("train"), _StayInEval)


def is_adapter_host(module: nn.Module) -> bool:
    """Whether the module is an adapter host, of this package or of NeMo."""
    return callable(getattr(module, "forward_enabled_adapters", None))


def adapter_tensors(model: nn.Module) -> dict[int, str]:
    """The ids of all weights and buffers of adapters -> the adapter's name.

    Hosts tell them, and never names: a layer of wav2vec2 (MMS) has an `adapter_layer` that is the base model's own.
    """
    found: dict[int, str] = {}
    for module in model.modules():
        layer = adapter_layer_of(module)
        for name, adapter in layer.named_children() if layer is not None else ():
            found |= dict.fromkeys(map(id, (*adapter.parameters(), *adapter.buffers())), name)
    return found


def adapter_layer_of(module: nn.Module) -> nn.Module | None:
    """What holds the adapters of a host by name; None for a module that is no host, or has no adapter."""
    layer = getattr(module, "adapter_layer", None)
    return layer if is_adapter_host(module) and isinstance(layer, nn.Module) else None


def _freeze(module: nn.Module, kept: set[int], *, eval_mode: bool) -> None:
    own = {name: p for name, p in module.named_parameters(recurse=False) if id(p) not in kept}
    record: dict[str, Any] = module.__dict__.setdefault(
        _RECORD, {"training": module.training, "requires_grad": {n: p.requires_grad for n, p in own.items()}}
    )
    for name, parameter in own.items():
        record["requires_grad"].setdefault(name, parameter.requires_grad)
        parameter.requires_grad_(False)
    if eval_mode:
        module.training = False
        module.__dict__["train"] = _StayInEval(module)


def _adapter_modules(model: nn.Module) -> set[nn.Module]:
    """All modules inside adapters, with the ModuleDicts that hold them."""
    found: set[nn.Module] = set()
    for module in model.modules():
        layer = adapter_layer_of(module)
        if layer is not None:
            found.update(layer.modules())
    return found
