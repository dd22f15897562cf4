"""Save and load adapters alone, without the frozen model they were trained on.

Names match exactly (`an4` never takes `an4_v2` along). A file knows its base model by a fingerprint, and
holds an input with the output that each adapter gave for it: if a changed package, torch or NeMo computes
something else from the same weights, loading says so instead of giving other results in silence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from harness.adapters.adapter_file import (
    BY_POSITION,
    UNKNOWN_BASE,
    AdapterFileError,
    check_classes,
    read_adapter_file,
    write_adapter_file,
)
from harness.adapters.filling import FiledAdapter, run_probe
from harness.adapters.freezing import adapter_layer_of
from harness.adapters.model_adapters import ModelAdapters
from harness.adapters.module_mixin import AdapterModuleMixin
from harness.adapters.plain_values import encode, is_plain
from harness.adapters.widths import open_width, width_at
from harness.tensors import digest

_SUFFIXES = (".safetensors", ".json")
_PROBE_SEED = 20250920
Names = str | Sequence[str] | None


def save_adapters(
    model: ModelAdapters,
    path: str | Path,
    name: Names = None,
    *,
    base_fingerprint: str | None = None,
    probe: bool | Tensor = True,
) -> list[Path]:
    """Write adapters to STEM.safetensors and STEM.json.

    Args:
        model: the model that holds them.
        path: a stem (`runs/an4`; a suffix .safetensors or .json is taken off) for one file with all
            the adapters, or an existing folder for one file an adapter, with its name.
        name: one or several adapters, as `name` or `module:name`; all if None.
        base_fingerprint: identifies the frozen model; `fingerprint_base_model(model)` if None. Give one if
            something else than adapters, such as a head, is trained too.
        probe: whether to store an input and each adapter's output; or the input itself, [B, ..., D].

    Returns:
        The files written.

    Raises:
        ValueError: no such adapter, nothing to save, or a config that JSON cannot hold.
        TrialError: the disk is full or not writable (reason `disk`); earlier files are intact.
    """
    names = select(model, name)
    if base_fingerprint is None:
        base_fingerprint = fingerprint_base_model(cast(nn.Module, model))
    written: list[Path] = []
    for stem, members in stems(Path(path), names).items():
        tensors: dict[str, Tensor] = {}
        described = {member: _describe(model, member, probe, tensors) for member in members}
        written += write_adapter_file(stem, tensors, described, base_fingerprint)
    return written


def load_adapters(
    model: ModelAdapters,
    path: str | Path,
    name: Names = None,
    map_location: str | None = None,
    strict: bool = True,
    *,
    base_fingerprint: str | None = None,
    allow_other_base: bool = False,
    allow: Collection[str | type] = (),
) -> list[str]:
    """Add the adapters of a file, or of all files in a folder, to the hosts that they were saved from.

    Args:
        model: a model with hosts at the same paths, without adapters of these names.
        path: as for `save_adapters`.
        name: adapters to load; all if None.
        map_location: device of the adapters; that of the model if None.
        strict: whether the tensors of an adapter must be complete.
        base_fingerprint: of this model; computed if None.
        allow_other_base: load although the fingerprint differs.
        allow: classes that the file may name besides the registered ones, or their import paths: a file that somebody
            else wrote must not choose what is run here.

    Returns:
        The names of the adapters. If anything is wrong with one, none is added.

    Raises:
        AdapterFileError: a broken file, a class that is neither registered nor allowed, another base model, missing
            hosts, tensors that do not fit, or a probe whose output has changed.
        ValueError: an adapter of that name exists, or its class cannot be built.
    """
    asked = [name] if isinstance(name, str) else name
    wanted = None if asked is None else {item.rpartition(":")[2] for item in asked}
    files = {stem: read_adapter_file(stem) for stem in _stems_to_read(Path(path), wanted)}
    found = {member for header, _ in files.values() for member in header["adapters"]}
    if wanted is not None and not wanted <= found:
        missing = ", ".join(sorted(wanted - found))
        raise AdapterFileError(f"{path}: no adapter named {missing}; there are: {', '.join(sorted(found))}")
    fingerprint = base_fingerprint
    loaded: list[str] = []
    filed: list[FiledAdapter] = []
    with all_or_none(model, loaded):
        for stem, (header, tensors) in files.items():
            if not allow_other_base:
                fingerprint = fingerprint or fingerprint_base_model(cast(nn.Module, model))
                check_base(stem, header, fingerprint)
            for member, described in header["adapters"].items():
                if wanted is None or member in wanted:
                    check_classes(stem, member, described["config"], allow)
                    filed.append(FiledAdapter(stem, member, described, tensors))
                    _restore(model, filed[-1], map_location, strict, loaded)
        hosts = model.adapter_hosts_by_path_()  # a file that names its hosts by their position has no probe
        for one in filed:  # last: a fusion runs others, which may come after it
            one.check_outputs(hosts, one.name)
    return loaded


def fingerprint_base_model(model: nn.Module) -> str:
    """Hash the parameters and buffers of a model without its adapters."""
    layers = [
        f"{path}.adapter_layer." if path else "adapter_layer."
        for path, module in model.named_modules(remove_duplicate=False)  # as the state dict names them
        if adapter_layer_of(module) is not None
    ]
    state = model.state_dict()
    return digest({key: value for key, value in state.items() if not key.startswith(tuple(layers))})


def select(model: ModelAdapters, name: Names) -> list[str]:
    """The bare names of the adapters to save; raises ValueError if one is unknown, or there is none."""
    if name is None:
        names = model.adapter_names_()
    else:
        asked = [name] if isinstance(name, str) else name
        names = [model.known_adapter_name_(item) for item in asked]
        for item, bare in zip(asked, names, strict=True):
            if left := model.hosts_of_adapter(bare).keys() - model.hosts_of_adapter(item).keys():
                raise ValueError(
                    f"`{item}`: a file has an adapter whole, and `{bare}` is in {min(left)} too: ask for `{bare}`"
                )
    if not names:
        raise ValueError("No adapters have been added to this model, so no adapters can be saved.")
    return names


def stems(path: Path, names: list[str]) -> dict[Path, list[str]]:
    """The files to write, without their suffix, and the adapters in each: all in one, or in a folder one in each."""
    if not path.is_dir():
        return {_stem_of(path): names}
    for name in names:
        if name != Path(name).name or name.startswith("."):
            raise ValueError(f"adapter `{name}` cannot be a file name in {path}: give a stem, not a folder")
    return {path / name: [name] for name in names}


def _stems_to_read(path: Path, wanted: set[str] | None) -> list[Path]:
    if not path.is_dir():
        return [_stem_of(path)]
    if wanted is not None:
        return [path / name for name in sorted(wanted)]
    stems = [_stem_of(file) for file in sorted(path.glob("*.safetensors"))]
    if not stems:
        raise AdapterFileError(f"{path}: there is no adapter file in this folder")
    return stems


def _stem_of(path: Path) -> Path:
    if path.suffix == ".pt":
        raise ValueError(f"{path}: .pt is NeMo's format (harness.adapters.nemo_files); this one has .safetensors")
    for suffix in _SUFFIXES:
        if path.name.endswith(suffix) and path.name != suffix:
            return path.with_name(path.name.removesuffix(suffix))
    return path


def _describe(model: ModelAdapters, name: str, probe: bool | Tensor, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The header entry of one adapter; its tensors are added to `tensors`."""
    hosts: dict[str, Any] = {}
    mixed = open_width(model.adapter_cfg[name])
    for path, host in model.hosts_of_adapter(name).items():
        adapter = host.adapter_layer[name]
        found, extra = _state_of(adapter, name)
        state = {f"{name}/{path}/{key}": tensor for key, tensor in found.items()}
        probed = _probe_tensors(host, name, f"probe/{name}/{path}", probe)
        held: dict[str, Tensor] = {}
        encoded = {key: encode(value, f"extra/{name}/{path}/{key}", held) for key, value in extra.items()}
        clashing = sorted((state.keys() | probed.keys() | held.keys()) & tensors.keys())
        if clashing:
            raise ValueError(f"adapter `{name}`: two tensors would be named {clashing[0]}: rename the adapter")
        tensors.update({**state, **probed, **held})
        enabled = host.adapter_cfg[name]["enabled"]
        hosts[path] = {"enabled": enabled, "keys": list(state), "probe": list(probed)}
        if encoded:
            hosts[path]["extra"] = encoded
        if mixed:
            hosts[path]["width"] = width_at(host, name, mixed[0])
    module_name, _ = model.resolve_adapter_module_name_(name)
    return {"module": module_name, "config": model.adapter_cfg[name], "hosts": hosts}


def _state_of(adapter: nn.Module, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and all buffers, also those that are not persistent; and what `get_extra_state` methods give."""
    state: dict[str, Any] = {**dict(adapter.named_buffers()), **adapter.state_dict()}
    extra = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
    for key, value in extra.items():
        if not is_plain(value):
            raise ValueError(f"adapter `{name}`: {key} is a {type(value).__name__}, which an adapter file cannot hold")
    return {key: value for key, value in state.items() if key not in extra}, extra


def _probe_tensors(host: AdapterModuleMixin, name: str, prefix: str, probe: bool | Tensor) -> dict[str, Tensor]:
    if isinstance(probe, Tensor):
        x = probe.detach().cpu().double()
    else:
        width = (
            getattr(host, "reads_dim", None) or getattr(host, "dim", None) or host.adapter_cfg[name].get("in_features")
        )
        if not probe or not isinstance(width, int):
            return {}
        generator = torch.Generator().manual_seed(_PROBE_SEED)
        x = torch.randn(2, 3, width, generator=generator, dtype=torch.float64)
    try:
        return {f"{prefix}/input": x, f"{prefix}/output": run_probe(host, name, x)}
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"adapter `{name}`: its output for a probe of shape {list(x.shape)} in float64 "
            f"cannot be computed ({reason}): give another `probe`, or probe=False to store none"
        ) from error


def check_base(stem: Path, header: Mapping[str, Any], fingerprint: str) -> None:
    """Refuse an adapter file of another base model; raises AdapterFileError."""
    if header["base_fingerprint"] == UNKNOWN_BASE:
        raise AdapterFileError(
            f"{stem}: it does not say which base model it was trained on, as it was converted from NeMo's format; "
            "load_adapters(..., allow_other_base=True) loads it all the same, and `from` of a trial takes the .pt file"
        )
    if header["base_fingerprint"] != fingerprint:
        raise AdapterFileError(
            f"{stem}: trained on another base model (fingerprint {header['base_fingerprint'][:12]}, "
            f"this one has {fingerprint[:12]}); allow_other_base=True loads it all the same"
        )


@contextmanager
def all_or_none(model: ModelAdapters, loaded: list[str]) -> Iterator[None]:
    """Remove the adapters loaded so far if the block fails."""
    try:
        yield
    except BaseException:
        for name in loaded:
            model.remove_adapter(name)
        raise


def _restore(
    model: ModelAdapters, filed: FiledAdapter, map_location: str | None, strict: bool, loaded: list[str]
) -> None:
    name, module = filed.name, filed.described["module"]
    hosts = _hosts_for(model, filed)
    model.check_new_adapter_name_(name, name)
    addressed, places = f"{module}:{name}" if module else name, [hosts[path] for path in filed.hosts]
    model.add_adapter_to_hosts_(addressed, filed.config, places, filed.widths)
    loaded.append(name)
    device = map_location or next((p.device for p in cast(nn.Module, model).parameters()), "cpu")
    filed.fill(hosts, name, device, strict)
    for path, entry in filed.hosts.items():
        hosts[path].set_enabled_adapters(name, entry["enabled"])


def _hosts_for(model: ModelAdapters, filed: FiledAdapter) -> dict[str, AdapterModuleMixin]:
    """The hosts of a model that an adapter of a file belongs in, by their names in the file.

    Raises:
        AdapterFileError: the model does not have them.
    """
    place, module = f"{filed.stem}: adapter `{filed.name}`", filed.described["module"]
    if filed.described.get("hosts_are") == BY_POSITION:
        found = list(model.adapter_hosts(module).values())
        if len(found) != len(filed.hosts):
            raise AdapterFileError(
                f"{place} is for {len(filed.hosts)} hosts in their order, but the model has {len(found)} in "
                f"{module or 'all of it'}"
            )
        return dict(zip(filed.hosts, found, strict=True))
    everywhere = model.adapter_hosts_by_path_()
    absent = [path for path in filed.hosts if path not in everywhere]
    if absent:
        raise AdapterFileError(
            f"{place} belongs in {', '.join(absent)}, but the model has hosts at: {', '.join(everywhere) or 'no place'}"
        )
    return {path: everywhere[path] for path in filed.hosts}
