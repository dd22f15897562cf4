"""What training changes besides the weights that learn: buffers, weights without a gradient, and plain attributes.

BatchNorm's running statistics are such state, an average of weights that an adapter keeps, a counter in a strategy, or
a generator of its own. A checkpoint holds all of it, and the best epoch's goes with the best epoch's weights.

Frozen modules are left out: they stay in eval mode, and nothing of theirs changes. Attributes are looked for in
adapters and their strategies, and in the objects that those hold; what has not changed is not saved.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters.freezing import adapter_layer_of, is_adapter_host, is_frozen
from harness.adapters.plain_values import decode, encode, is_plain, same_bits
from harness.errors import TrialError

_MODULES_OWN = {*vars(nn.Module()), "_registry"}  # torch's own attributes, and auxiliary losses of one step
_NO_STATE = (nn.Module, nn.Parameter, type, ModuleType, FunctionType, MethodType)  # or looked at elsewhere
_EXTRA = "_extra_state"  # torch's name for what a module's own `get_extra_state` returns
_Modules = Sequence[tuple[str, nn.Module]]  # with their paths in the model


@dataclass(frozen=True)
class Snapshot:
    """A copy of the state: tensors by name, and by holder and name the attributes, as JSON that refers to tensors."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, path: str, name: str, value: Any) -> None:
        """Take a plain value along."""
        self.values.setdefault(path, {})[name] = encode(value, f"{path}.{name}", self.tensors)

    def has(self, path: str, name: str, value: Any) -> bool:
        """Whether it holds exactly this value."""
        tensors: dict[str, Tensor] = {}
        encoded = encode(value, f"{path}.{name}", tensors)
        return self.values.get(path, {}).get(name, self) == encoded and all(
            key in self.tensors and same_bits(tensor, self.tensors[key]) for key, tensor in tensors.items()
        )


class ChangingState:
    """The state of a model that is about to be trained, compared with what it is at this moment."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._outer = _outside_of_adapters(model)
        self._first = Snapshot()
        self._opaque: dict[tuple[str, str], bytes | None] = {}
        holders = dict(self._objects(self._modules()))
        self._holders = set(holders)
        for path, holder in holders.items():
            for name, value in _attributes(holder):
                if is_plain(value):
                    self._first.add(path, name, value)
                else:
                    self._opaque[path, name] = _pickled(value)

    def take(self) -> Snapshot:
        """Copy the state as it is now.

        Raises:
            TrialError: an attribute has changed whose value cannot be saved (reason `checkpoint`).
        """
        modules = self._modules()
        found = self._tensors(modules)
        taken = Snapshot({f"{path}.{name}": value.detach().clone() for path, _, name, value in found})
        for path, holder in self._objects(modules):
            for name, value in _attributes(holder):
                if path in self._holders and is_plain(value):
                    if not self._first.has(path, name, value):
                        taken.add(path, name, value)
                elif path not in self._holders or self._opaque.get((path, name)) != _pickled(value):
                    raise TrialError(
                        "checkpoint",
                        f"{path}.{name} changes during training, and its {type(value).__name__} cannot be saved with "
                        "the weights; keep what changes in buffers, numbers, tensors, lists or dicts",
                    )
        return taken

    @torch.no_grad()
    def put(self, taken: Snapshot) -> None:
        """Put a copied state back.

        Raises:
            KeyError: it is another model's: it lacks a tensor, or has attributes of an object that is not there.
        """
        modules = self._modules()
        for path, holder, name, current in self._tensors(modules, also_empty=True):
            tensor = taken.tensors.get(f"{path}.{name}")
            if tensor is not None and current is not None and current.shape == tensor.shape:
                current.copy_(tensor)
            elif name in holder._buffers:  # one that training makes, removes or lets grow
                device = next((weight.device for weight in self.model.parameters()), None)
                holder._buffers[name] = None if tensor is None else tensor.to(device, copy=True)
            else:
                raise KeyError(f"{path}.{name}")
        changed, objects = self.take().values, dict(self._objects(modules))
        for path in {**changed, **taken.values}:
            for name in {**changed.get(path, {}), **taken.values.get(path, {})}:
                source = taken if name in taken.values.get(path, {}) else self._first
                _set(objects[path], name, source.values.get(path, {}).get(name, _set), source.tensors)

    def _modules(self) -> _Modules:
        """All modules that may have state: those outside of adapters, and what adapters hold now."""
        found = []
        for path, module in self._outer:
            found.append((path, module))
            if (layer := adapter_layer_of(module)) is not None:
                found += layer.named_modules(prefix=f"{path}.adapter_layer")
        return found

    @staticmethod
    def _tensors(modules: _Modules, also_empty: bool = False) -> Iterator[tuple[str, nn.Module, str, Any]]:
        """Path, holder, name and tensor of each buffer (persistent or not) and each weight that does not learn."""
        for path, module in modules:
            if is_frozen(module):
                continue
            for name, buffer in module._buffers.items():
                if buffer is not None or also_empty:
                    yield path, module, name, buffer
            for name, weight in module._parameters.items():
                if weight is not None and not weight.requires_grad:
                    yield path, module, name, weight

    @staticmethod
    def _objects(modules: _Modules) -> Iterator[tuple[str, Any]]:
        """Path and object of everything that may have attributes: adapters' modules, strategies, what these hold."""
        seen: set[int] = set()
        for path, module in modules:
            layer = module._modules.get("adapter_layer")
            if layer is not None and is_adapter_host(module):
                for below, part in layer.named_modules(prefix=f"{path}.adapter_layer"):
                    yield from _with_objects_in(part, below, seen)
            elif _has_extra_state(module) and not is_frozen(module) and id(module) not in seen:
                seen.add(id(module))
                yield path, module


def _outside_of_adapters(model: nn.Module) -> _Modules:
    """The hosts of adapters, and the modules outside of adapters that are not frozen: of a large base few are left."""
    modules = [*model.named_modules()]
    layers = [adapter_layer_of(module) for _, module in modules]
    inside = {id(part) for layer in layers if layer is not None for part in layer.modules()}
    return [
        (path, module)
        for path, module in modules
        if id(module) not in inside and (is_adapter_host(module) or not is_frozen(module))
    ]


def _with_objects_in(holder: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if id(holder) in seen:
        return
    seen.add(id(holder))
    yield path, holder
    for name, value in _own(holder).items():
        if _is_object(value):
            yield from _with_objects_in(value, f"{path}.{name}", seen)


def _attributes(holder: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of the attributes that may be state of a training."""
    for name, value in _own(holder).items():
        # The strategies' common generator is seeded anew at each epoch (TaskModel.set_strategy_generator).
        is_common = name == "generator" and isinstance(value, torch.Generator)
        if not (is_common or isinstance(value, _NO_STATE) or _is_object(value)):
            yield name, value
    if _has_extra_state(holder):
        yield _EXTRA, holder.get_extra_state()


def _own(holder: Any) -> Mapping[str, Any]:
    own = dict(vars(holder))
    return {k: v for k, v in own.items() if k not in _MODULES_OWN} if isinstance(holder, nn.Module) else own


def _is_object(value: Any) -> bool:
    """Whether a value is an object whose attributes are looked at one by one: that of somebody's own class."""
    is_library = type(value).__module__.partition(".")[0] in sys.stdlib_module_names
    return hasattr(value, "__dict__") and not (is_library or is_plain(value) or isinstance(value, _NO_STATE))


def _has_extra_state(holder: Any) -> bool:
    return isinstance(holder, nn.Module) and type(holder).get_extra_state is not nn.Module.get_extra_state


def _set(holder: Any, name: str, content: Any, tensors: Mapping[str, Tensor]) -> None:
    """Set an attribute to an encoded value; to none (this function stands for it), where it was not there."""
    if name == _EXTRA:
        holder.set_extra_state(decode(content, tensors, None))
    elif content is _set:
        delattr(holder, name)
    else:
        setattr(holder, name, decode(content, tensors, getattr(holder, name, None)))


class _Pickler(pickle.Pickler):
    """Leaves out what is no state, or is looked at elsewhere."""

    def persistent_id(self, value: Any) -> str | None:
        return str(type(value)) if isinstance(value, _NO_STATE) else None


def _pickled(value: Any) -> bytes | None:
    """A value's bytes, to see whether it changes; None where it has none."""
    written = io.BytesIO()
    try:
        _Pickler(written).dump(value)
    except Exception:  # a lock or an open file, say: nothing that a training could go on from
        return None
    return written.getvalue()
