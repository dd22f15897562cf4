"""AccessMixin: a module hands intermediate tensors, such as an auxiliary loss, to whoever trains the model.

A strategy registers `adapter_loss` on the adapter while the forward pass runs; `collect_adapter_losses`
takes the sum to the optimizer and empties every registry, whatever id access was enabled under. In NeMo
the losses are looked up under the model's id and registered under "default", so they are never found and
pile up with their graphs.

The settings are shared by id ("guid") because NeMo's signatures are class methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

DEFAULT_GUID = "default"
ADAPTER_LOSS = "adapter_loss"

_ACCESS_CFG: dict[str, dict[str, Any]] = {}
_ACCESS_ENABLED: dict[str, bool] = {}


class AccessMixin:
    """Gives a module a registry of named tensors (signatures of NeMo's AccessMixin)."""

    _registry: dict[str, list[Tensor]]

    def register_accessible_tensor(self, name: str, tensor: Tensor) -> None:
        """Append a tensor, of any shape, to the list kept under a name.

        `access_cfg` may ask for a copy on the CPU (`convert_to_cpu`) or without its graph (`detach`).
        """
        if self.access_cfg.get("convert_to_cpu", False):
            tensor = tensor.cpu()
        if self.access_cfg.get("detach", False):
            tensor = tensor.detach()
        if "_registry" not in self.__dict__:  # nn.Module does not call the mixin's __init__
            self._registry = {}
        self._registry.setdefault(name, []).append(tensor)

    @classmethod
    def get_module_registry(cls, module: nn.Module) -> dict[str, dict[str, list[Tensor]]]:
        """Return the non-empty registries below a module, by dotted module name."""
        return {name: registry for name, registry in _registries(module) if registry}

    def reset_registry(self, registry_key: str | None = None) -> None:
        """Empty the registries of this module and of all below it, and disable access.

        NeMo calls it on plain modules too, which have none of the mixin's methods: `AccessMixin.reset_registry(model)`.

        Args:
            registry_key: empty only the lists of that name.

        Raises:
            KeyError: no registry has that name.
        """
        registries = [registry for _, registry in _registries(cast(nn.Module, self))]
        if registry_key is not None and not any(registry_key in registry for registry in registries):
            available = sorted({key for registry in registries for key in registry})
            raise KeyError(
                f"Registry key `{registry_key}` provided, but registry does not have this key.\n"
                f"Available keys in registry : {available}"
            )
        for registry in registries:
            if registry_key is None:
                registry.clear()
            else:
                registry.pop(registry_key, None)
        AccessMixin.set_access_enabled(access_enabled=False, guid=getattr(self, "model_guid", None))

    @property
    def access_cfg(self) -> dict[str, Any]:
        """The settings of this module's id: `detach`, `convert_to_cpu`, `compute_adapter_loss`."""
        return _ACCESS_CFG.setdefault(getattr(self, "model_guid", None) or DEFAULT_GUID, {})

    @classmethod
    def update_access_cfg(cls, cfg: dict[str, Any], guid: str | None = None) -> None:
        """Add settings to those of an id."""
        _ACCESS_CFG.setdefault(guid or DEFAULT_GUID, {}).update(cfg)

    @classmethod
    def is_access_enabled(cls, guid: str | None = None) -> bool:
        """Whether access is enabled under an id ("default" if None)."""
        return _ACCESS_ENABLED.get(guid or DEFAULT_GUID, False)

    @classmethod
    def set_access_enabled(cls, access_enabled: bool, guid: str | None = None) -> None:
        """Enable or disable access under an id ("default" if None)."""
        _ACCESS_ENABLED[guid or DEFAULT_GUID] = access_enabled


def collect_adapter_losses(model: nn.Module) -> Tensor | None:
    """Sum the auxiliary losses that enabled adapters registered, and empty every registry of the model.

    Call it once after each forward pass, and add the result to the loss. It works for this package's
    classes and for NeMo's, whose registries have the same form.

    Args:
        model: the model, or any module that holds adapter hosts.

    Returns:
        A scalar with its graph ([K] for a pack), or None if nothing was registered.
    """
    total: Tensor | None = None
    modules = list(model.modules())  # walked once, because this runs in every step
    for adapter in _enabled_adapter_modules(modules):
        for _, registry in _registries(adapter):
            for loss in registry.get(ADAPTER_LOSS, ()):
                total = loss if total is None else total + loss.to(total.device)
            registry.pop(ADAPTER_LOSS, None)  # an adapter shared by two hosts counts once
    for module in modules:
        if isinstance(vars(module).get("_registry"), dict):
            _reset(module)
    return total


def _reset(module: nn.Module) -> None:
    cast(AccessMixin, module)._registry.clear()
    disable = getattr(module, "set_access_enabled", None)
    if callable(disable):
        disable(access_enabled=False, guid=getattr(module, "model_guid", None))
        if getattr(module, "model_guid", None) is not None:  # NeMo's strategy enables "default" in any case
            disable(access_enabled=False, guid=None)


def _enabled_adapter_modules(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for host in modules:
        layer = host._modules.get("adapter_layer")  # getattr is slow where there is none
        if isinstance(layer, nn.ModuleDict):
            for name in cast(Any, host).get_enabled_adapters():
                if name in layer:
                    yield layer[name]


def _registries(module: nn.Module) -> Iterator[tuple[str, dict[str, list[torch.Tensor]]]]:
    for name, child in module.named_modules():
        registry = vars(child).get("_registry")
        if isinstance(registry, dict):
            yield name, registry
