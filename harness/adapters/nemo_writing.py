"""Write the adapter file that NeMo's `load_adapters` reads (`.pt`), from a model or from a file of ours; and back.

    NeMo's file    `module:name` -> one state dict a host, in the order of the layers; `__cfg__`: the configs
    ours           also the places of the hosts, a fingerprint of the base model, and an output to compare with

What only one of the two holds is not made up: NeMo's has no room for places and fingerprint, so a file converted from
it has none, and is loaded into the hosts of a model by their order.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.adapters.adapter_file import (
    BY_POSITION,
    UNKNOWN_BASE,
    AdapterFileError,
    check_classes,
    knows_order,
    read_adapter_file,
    write_adapter_file,
)
from harness.adapters.checkpoint import select, stems
from harness.adapters.filling import FiledAdapter
from harness.adapters.model_adapters import ModelAdapters
from harness.adapters.module_mixin import ENABLED_KEY, AdapterModuleMixin
from harness.adapters.nemo_files import (
    CFG_KEY,
    NEMO_TARGETS,
    NemoAdapter,
    read_nemo_adapters,
    translate_targets,
)
from harness.adapters.registry import registered_config
from harness.disk import write_together
from harness.instantiate import TARGET_KEY, target_of

SUFFIX = ".pt"

NEMO_OPTIONS: dict[str, tuple[str, ...]] = {
    "LinearAdapter": ("in_features", "dim", "activation", "norm_position", "dropout", "adapter_strategy"),
    "ResidualAddAdapterStrategy": ("stochastic_depth", "l2_lambda"),
    "ReturnResultAdapterStrategy": (),
}
"""The arguments of NeMo's classes, of those in NEMO_TARGETS."""

_ALSO_NEMOS = {("noise", "global")}
"""Options that NeMo's classes lack, at the values that say what NeMo does anyway."""

_DIRECTIVES = (TARGET_KEY, "_args_", "_recursive_", "_partial_", "_convert_", ENABLED_KEY)


def save_nemo_adapters(
    model: ModelAdapters, path: Path, name: str | Sequence[str] | None = None, *, allow: Collection[str | type] = ()
) -> list[Path]:
    """Write adapters of a model to a file that NeMo 2 and 3 read.

    Args:
        model: the model that holds them.
        path: the file, with the suffix .pt; or an existing folder for one file an adapter, with its name.
        name: one or several adapters, as `name` or `module:name`; all if None.
        allow: classes, or their import paths, that the file may name though NeMo has none like them: where it is
            loaded, NeMo must find and allow them (`harness.adapters.allow_in_nemo`).

    Returns:
        The files written.

    Raises:
        AdapterFileError: an adapter that NeMo cannot hold; nothing is written then.
        ValueError: no such adapter, or nothing to save.
        TrialError: the disk is full or not writable (reason `disk`).
    """
    names = select(model, name)
    members = {path: names}
    if path.is_dir():
        members = {stem.with_name(f"{stem.name}{SUFFIX}"): held for stem, held in stems(path, names).items()}
    contents = {
        file: _content({member: _of_model(model, member) for member in held}, allow) for file, held in members.items()
    }
    write_together(contents, sync=list(contents))
    return list(contents)


def convert_adapters(
    source: Path, target: Path, *, module: str | None = None, allow: Collection[str | type] = ()
) -> tuple[list[str], list[Path]]:
    """Turn NeMo's adapter file into one of ours, or ours into NeMo's; returns the adapters' names, and the files.

    Args:
        source: NAME.pt, or NAME.safetensors.
        target: NAME.safetensors, or NAME.pt: the other kind.
        module: the module of the other model that the adapters are for, `encoder` say; as in the source if None.
        allow: as for `save_nemo_adapters`, in both directions.

    Raises:
        AdapterFileError: a broken source, one of another format, or adapters that the target cannot hold.
        TrialError: the disk is full or not writable (reason `disk`).
    """
    if source.suffix == SUFFIX:
        read = read_nemo_adapters(source)
        adapters = {name: _moved(adapter, module) for name, adapter in read.items()}
        return list(adapters), _write_ours(source, target.with_suffix(""), adapters, allow)
    adapters = {name: _moved(adapter, module) for name, adapter in _of_file(source).items()}
    write_together({target: _content(adapters, allow)}, sync=[target])
    return list(adapters), [target]


def _moved(adapter: NemoAdapter, module: str | None) -> NemoAdapter:
    return adapter if module is None else dataclasses.replace(adapter, module=module)


def _of_model(model: ModelAdapters, name: str) -> NemoAdapter:
    hosts = model.hosts_of_adapter(name)
    module, _ = model.resolve_adapter_module_name_(name)
    states = [host.adapter_layer[name].state_dict() for host in hosts.values()]
    return NemoAdapter(module, {**model.adapter_cfg[name], ENABLED_KEY: _enabled(name, hosts)}, states)


def _enabled(name: str, hosts: Mapping[str, AdapterModuleMixin]) -> bool:
    return _one_switch(name, {path: host.adapter_cfg[name][ENABLED_KEY] for path, host in hosts.items()})


def _one_switch(name: str, enabled: Mapping[str, bool]) -> bool:
    if len(set(enabled.values())) > 1:
        off = ", ".join(path for path, on in enabled.items() if not on)
        raise AdapterFileError(
            f"adapter `{name}`: it is off in {off} alone, and NeMo has one switch for all its places"
        )
    return all(enabled.values())


def _of_file(path: Path) -> dict[str, NemoAdapter]:
    """The adapters of a file of ours."""
    header, tensors = read_adapter_file(path.with_suffix(""))
    if not knows_order(header) and any(len(described["hosts"]) > 1 for described in header["adapters"].values()):
        raise AdapterFileError(
            f"{path}: an older version wrote it, and left the order of its places to {path.stem}.json: put that "
            "beside it"
        )
    adapters = {}
    for name, described in header["adapters"].items():
        filed = FiledAdapter(path, name, described, tensors)
        states: list[dict[str, Any]] = [
            {**filed.own_tensors(at), **entry.get("extra", {})} for at, entry in filed.hosts.items()
        ]
        switch = _one_switch(name, {at: entry["enabled"] for at, entry in filed.hosts.items()})
        adapters[name] = NemoAdapter(described["module"], {**described["config"], ENABLED_KEY: switch}, states)
    return adapters


def _write_ours(
    source: Path, stem: Path, adapters: Mapping[str, NemoAdapter], allow: Collection[str | type]
) -> list[Path]:
    tensors: dict[str, Tensor] = {}
    described: dict[str, Any] = {}
    for name, adapter in adapters.items():
        config = translate_targets(adapter.config)
        check_classes(source, name, config, allow)
        hosts = {}
        for position, state in enumerate(adapter.states):
            held = {f"{name}/{position}/{key}": tensor for key, tensor in state.items()}
            tensors |= held
            hosts[str(position)] = {"enabled": bool(config.get(ENABLED_KEY, True)), "keys": list(held), "probe": []}
        described[name] = {"module": adapter.module, "config": config, "hosts": hosts, "hosts_are": BY_POSITION}
    return write_adapter_file(stem, tensors, described, UNKNOWN_BASE)


def _content(adapters: Mapping[str, NemoAdapter], allow: Collection[str | type]) -> bytes:
    """NeMo's file with these adapters.

    Raises:
        AdapterFileError: NeMo cannot hold one of them, or omegaconf is not installed.
    """
    try:
        from omegaconf import OmegaConf
    except ImportError as error:
        raise AdapterFileError("NeMo's files hold an omegaconf config: install omegaconf to write them") from error
    configs: dict[str, Any] = {"global_cfg": {"adapter_meta_cfg": {"modules": {}}}}
    content: dict[str, Any] = {}
    for name, adapter in adapters.items():
        configs["global_cfg"]["adapter_meta_cfg"]["modules"][name] = adapter.module
        configs[name] = _with_width(name, _nemo_config(name, adapter.config, allow), adapter.states)
        key = f"{adapter.module}:{name}" if adapter.module else name
        content[key] = [_nemo_state(name, state) for state in adapter.states]
    file = io.BytesIO()
    torch.save({**content, CFG_KEY: OmegaConf.create(configs)}, file)
    return file.getvalue()


def _nemo_config(name: str, config: Any, allow: Collection[str | type], place: str = "") -> Any:
    """A config with NeMo's import paths, without the options that NeMo's class lacks and that do nothing.

    Raises:
        AdapterFileError: a class that NeMo does not have, or an option of ours with a value of its own.
    """
    if isinstance(config, (list, tuple)):
        return [_nemo_config(name, item, allow, place) for item in config]
    if not isinstance(config, Mapping):
        return config
    target, kept = config.get(TARGET_KEY), dict(config)
    if target is not None and target not in NEMO_TARGETS:
        nemos = _nemo_target(name, target, allow)
        if nemos != target:
            kept = {TARGET_KEY: nemos, **_nemo_options(name, config, nemos.rpartition(".")[2], place)}
    return {
        key: value if key == TARGET_KEY else _nemo_config(name, value, allow, f"{place}{key}.")
        for key, value in kept.items()
    }


def _nemo_target(name: str, target: Any, allow: Collection[str | type]) -> str:
    if target in {item if isinstance(item, str) else target_of(item) for item in allow}:
        return str(target)
    entry = registered_config(target)
    ours = None if entry is None else next(f.default for f in dataclasses.fields(entry) if f.name == TARGET_KEY)
    theirs = {ours: nemos for nemos, ours in NEMO_TARGETS.items()}
    if ours in theirs:
        return theirs[ours]
    raise AdapterFileError(
        f"adapter `{name}`: NeMo has no class that computes what {target} does; write a .safetensors file, which "
        f"harness reads, or allow={[target]!r} where NeMo can import that class"
    )


def _nemo_options(name: str, config: Mapping[str, Any], cls: str, place: str) -> dict[str, Any]:
    entry = registered_config(config[TARGET_KEY])
    assert entry is not None, "only classes of ours have others' options"
    defaults = {f.name: f.default for f in dataclasses.fields(entry)}
    kept = {}
    for key, value in config.items():
        if key in NEMO_OPTIONS[cls] or key in _DIRECTIVES:
            kept[key] = value
        elif value != defaults.get(key, dataclasses.MISSING) and (key, value) not in _ALSO_NEMOS:
            has = ", ".join(NEMO_OPTIONS[cls]) or "no options"
            raise AdapterFileError(
                f"adapter `{name}`: {place}{key}: {value}: NeMo's {cls} has no such option (it has {has}), so NeMo "
                f"would compute something else; write a .safetensors file, or leave {key} at {defaults.get(key)}"
            )
    kept.pop(TARGET_KEY, None)
    return kept


def _with_width(name: str, config: dict[str, Any], states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """NeMo's LinearAdapter must be told its widths, the same at all places, which ours may leave to the places."""
    if config.get(TARGET_KEY) not in NEMO_TARGETS:
        return config
    down = "module.0.weight" if config.get("norm_position") == "post" else "module.1.weight"  # [dim, in_features]
    shapes = [state[down].shape for state in states if down in state]
    found = {}
    for option, axis in (("in_features", 1), ("dim", 0)):
        sizes = sorted({shape[axis] for shape in shapes})
        if len(sizes) != 1:
            told = " and ".join(map(str, sizes)) or "none"
            raise AdapterFileError(
                f"adapter `{name}`: {option}: its places have {told}, and NeMo has one {option} for all places"
            )
        found[option] = sizes[0]
    return {**config, **found}


def _nemo_state(name: str, state: Mapping[str, Any]) -> dict[str, Tensor]:
    found = {}
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise AdapterFileError(
                f"adapter `{name}`: {key} is a {type(value).__name__}, and NeMo's files hold tensors"
            )
        if value.dtype == torch.float64:
            raise AdapterFileError(
                f"adapter `{name}`: {key} is float64, which NeMo would round to float32 when it loads the file; "
                "convert the model to float32 first"
            )
        # NeMo takes every `name.` out of a key, wherever it stands: `e.module.0.weight` would become `modul0.weight`.
        if f"{name}.{key}".replace(f"{name}.", "") != key:
            raise AdapterFileError(
                f"adapter `{name}`: NeMo would not find {key} of an adapter of this name, as it takes `{name}.` out "
                "of all names of weights; give the adapter another name"
            )
        found[f"{name}.{key}"] = value.detach().cpu().contiguous().clone()
    return found
