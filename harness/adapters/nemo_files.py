"""Read the adapter files that NeMo's `save_adapters` writes (`.pt`), without running what they pickle.

Such a file is a dict: `module:name` (or `name`) -> a list of state dicts, one a host, in the order of the
model's modules, with keys `name.<parameter>`; and `__cfg__`, an omegaconf config of all adapters. It is
read with `weights_only=True` and an allow list of omegaconf's own classes. NeMo collected the keys by
substring, so a state dict of `an4` may hold tensors of `an4_v2`; here they match exactly.
"""

from __future__ import annotations

import collections
import importlib
import pickle
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from harness.adapters.adapter_file import AdapterFileError, check_classes
from harness.adapters.checkpoint import all_or_none
from harness.adapters.filling import load_state
from harness.adapters.model_adapters import ModelAdapters
from harness.instantiate import to_plain

CFG_KEY = "__cfg__"

NEMO_TARGETS = {
    "nemo.collections.common.parts.adapter_modules.LinearAdapter": "harness.adapters.linear.LinearAdapter",
    "nemo.core.classes.mixins.adapter_mixin_strategies.ResidualAddAdapterStrategy": (
        "harness.adapters.strategies.residual_add.ResidualAddAdapterStrategy"
    ),
    "nemo.core.classes.mixins.adapter_mixin_strategies.ReturnResultAdapterStrategy": (
        "harness.adapters.strategies.return_result.ReturnResultAdapterStrategy"
    ),
}
"""NeMo's import path -> ours, for classes that compute the same."""

_OMEGACONF_CLASSES = {
    "omegaconf.dictconfig": ("DictConfig",),
    "omegaconf.listconfig": ("ListConfig",),
    "omegaconf.base": ("ContainerMetadata", "Metadata"),
    "omegaconf.nodes": (
        "AnyNode",
        "BooleanNode",
        "BytesNode",
        "EnumNode",
        "FloatNode",
        "IntegerNode",
        "PathNode",
        "StringNode",
    ),
}


@dataclass(frozen=True)
class NemoAdapter:
    """One adapter of a NeMo file.

    Attributes:
        module: what stood before the colon, or ''.
        config: its config, with NeMo's import paths.
        states: one state dict a host, keys without the adapter's name.
    """

    module: str
    config: dict[str, Any]
    states: list[dict[str, Tensor]]


def read_nemo_adapters(path: str | Path) -> dict[str, NemoAdapter]:
    """Read a NeMo adapter file; returns its adapters by exact name, tensors on the CPU.

    Raises:
        AdapterFileError: no such file, not a NeMo adapter file, broken, holding anything but tensors and
            configs, or omegaconf is not installed.
    """
    path = Path(path)
    content = _load(path)
    if not isinstance(content, dict) or CFG_KEY not in content:
        raise AdapterFileError(f"{path}: not an adapter file of NeMo: it has no `{CFG_KEY}`")
    configs = to_plain(content[CFG_KEY])
    if not isinstance(configs, dict):
        raise AdapterFileError(f"{path}: its `{CFG_KEY}` is a {type(configs).__name__}, not a mapping of adapters")
    adapters: dict[str, NemoAdapter] = {}
    for key, states in content.items():
        if key == CFG_KEY:
            continue
        module, _, name = str(key).rpartition(":")
        config = configs.get(name)
        if not isinstance(config, dict) or not isinstance(states, list):
            raise AdapterFileError(f"{path}: adapter `{key}` has no config or no list of state dicts")
        if name in adapters:
            raise AdapterFileError(f"{path}: two adapters are named `{name}`, and a model holds one of a name")
        adapters[name] = NemoAdapter(
            module, config, [_own_tensors(state, name, f"{path}: `{key}`") for state in states]
        )
    return adapters


def load_nemo_adapters(
    model: ModelAdapters,
    path: str | Path,
    name: str | Sequence[str] | None = None,
    map_location: str | None = None,
    strict: bool = True,
    *,
    translate: bool = True,
    module_name: str | None = None,
    allow: Collection[str | type] = (),
) -> list[str]:
    """Add the adapters of a NeMo file to a model; `model.save_adapters` then writes them in our format.

    Args:
        model: a model with as many hosts, in the same order, as the file has state dicts.
        path: the `.pt` file.
        name: adapters to load, as `name` or `module:name`; all if None.
        map_location: device of the adapters; that of the model if None.
        strict: whether the tensors of an adapter must be complete.
        translate: use our classes for NeMo's of the same name; if false, NeMo must be installed.
        module_name: where to add them, if the model's modules have other names.
        allow: classes that the file may name besides the registered ones and NeMo's of the same name, or their import
            paths: a file that somebody else wrote must not choose what is run here.

    Returns:
        The names of the adapters. If anything is wrong with one, none is added.

    Raises:
        AdapterFileError: as read_nemo_adapters; no adapter of that name; a class that is neither registered nor
            allowed; another number of hosts; tensors that do not fit.
        ValueError: an adapter of that name exists, or its class cannot be built.
    """
    adapters = read_nemo_adapters(path)
    asked = list(adapters) if name is None else [name] if isinstance(name, str) else list(name)
    bare = [item.rpartition(":")[2] for item in asked]
    missing = [item for item in bare if item not in adapters]
    if missing:
        there = ", ".join(adapters)
        raise AdapterFileError(f"{path}: no adapter named {', '.join(missing)}; there are: {there}")
    device = map_location or next((p.device for p in cast(nn.Module, model).parameters()), "cpu")
    loaded: list[str] = []
    with all_or_none(model, loaded):
        for item in bare:
            source = adapters[item]
            module = source.module if module_name is None else module_name
            config = translate_targets(source.config) if translate else source.config
            check_classes(path, item, config, allow if translate else [*allow, *NEMO_TARGETS])
            model.add_adapter(f"{module}:{item}" if module else item, config)
            loaded.append(item)
            fill_hosts(model, item, source.states, device, strict, str(path))
    return loaded


def translate_targets(config: Any) -> Any:
    """Replace NeMo's import paths by ours, at any depth; unknown ones are left as they are."""
    if isinstance(config, Mapping):
        return {key: translate_targets(value) for key, value in config.items()}
    if isinstance(config, list):
        return [translate_targets(item) for item in config]
    return NEMO_TARGETS.get(config, config) if isinstance(config, str) else config


def fill_hosts(
    model: ModelAdapters,
    name: str,
    states: Sequence[Mapping[str, Tensor]],
    device: Any,
    strict: bool,
    place: str,
) -> None:
    """Load one state dict into each host of an adapter, in the order of the layers."""
    hosts = model.hosts_of_adapter(name)
    if len(hosts) != len(states):
        raise AdapterFileError(
            f"{place}: adapter `{name}` has {len(states)} state dicts, but the model has "
            f"{len(hosts)} hosts for it: {', '.join(hosts)}"
        )
    for (path, host), state in zip(hosts.items(), states, strict=True):
        load_state(host.adapter_layer[name], state, device, strict, f"{place}: adapter `{name}` in {path}")


def _load(path: Path) -> Any:
    if not path.is_file():
        raise AdapterFileError(f"{path}: there is no such adapter file")
    try:
        with torch.serialization.safe_globals(_allowed_classes(path)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = " ".join(str(error).split())
        raise AdapterFileError(f"{path}: refused: corrupt, or more than tensors: {reason}") from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        if isinstance(error, AdapterFileError):
            raise
        raise AdapterFileError(f"{path}: truncated or corrupt: {' '.join(str(error).split())}") from error


def _allowed_classes(path: Path) -> list[Any]:
    try:
        modules = {name: importlib.import_module(name) for name in _OMEGACONF_CLASSES}
    except ImportError as error:
        raise AdapterFileError(
            f"{path}: NeMo's files hold an omegaconf config: install omegaconf to read them"
        ) from error
    found = [getattr(modules[module], name, None) for module, names in _OMEGACONF_CLASSES.items() for name in names]
    return [*filter(None, found), typing.Any, collections.defaultdict, dict, list, int, float, bool, str]


def _own_tensors(state: Any, name: str, place: str) -> dict[str, Tensor]:
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise AdapterFileError(f"{place}: a state dict is a {type(state).__name__}, not a mapping of names to tensors")
    own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
    for key, value in own.items():
        if not isinstance(value, Tensor):
            raise AdapterFileError(f"{place}: {key} is a {type(value).__name__}, not a tensor")
    return own
