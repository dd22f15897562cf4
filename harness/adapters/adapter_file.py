"""The adapter file: NAME.safetensors with a header, and NAME.json, the same header to read by eye.

The header in the safetensors file is what counts, so one rename commits a save: a crash between the two
files leaves a pair that is refused, never a wrong adapter. Nothing is pickled. Every way in which a file
can be broken ends in one AdapterFileError line.

Header fields:
    format, format_version    what this file is
    package_version           that wrote it
    base_fingerprint          of the frozen model it was trained on
    tensor_sha256             of all tensors: names, types, shapes and values
    adapters                  name -> module, config, hosts: path -> enabled, keys, probe, and width where they differ;
                              where `hosts_are` says `position`, the hosts are 0, 1 ... in the order of the layers
    order                     their names in the order in which they run, where there are several
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from harness.adapters.registry import unregistered_targets
from harness.disk import write_together
from harness.errors import UserError
from harness.tensors import digest

FORMAT = "harness-adapters"
FORMAT_VERSION = 1
BY_POSITION = "position"
UNKNOWN_BASE = ""  # the fingerprint in a file that was converted from a format without one
_HEADER_KEY = "harness"
_FIELDS = ("format", "format_version", "package_version", "base_fingerprint", "tensor_sha256", "adapters")


class AdapterFileError(UserError):
    """An adapter file that is missing, broken, of another format or of another base model."""


def write_adapter_file(
    stem: Path, tensors: Mapping[str, Tensor], adapters: Mapping[str, Any], base_fingerprint: str
) -> list[Path]:
    """Write STEM.safetensors and STEM.json, both or neither.

    Raises:
        ValueError: an adapter config that cannot be written as JSON.
        TrialError: the disk is full or not writable (reason `disk`); earlier files of that name are intact.
    """
    own = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "package_version": _package_version(),
        "base_fingerprint": base_fingerprint,
        "tensor_sha256": digest(own),
        "adapters": adapters,
        **({"order": list(adapters)} if len(adapters) > 1 else {}),  # headers were sorted once
    }
    try:
        text = json.dumps(header, indent=1)
    except TypeError as error:
        raise ValueError(f"the adapter configs cannot be written as JSON: {error}") from error
    content = safetensors.torch.save(own, {_HEADER_KEY: json.dumps(header)})  # in order: of the layers
    files = {_with_suffix(stem, ".safetensors"): content, _with_suffix(stem, ".json"): text.encode()}
    write_together(files, sync=list(files))
    return list(files)


def read_adapter_file(stem: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read and check STEM.safetensors, and STEM.json if it is there.

    Returns:
        The header and all tensors (on the CPU).

    Raises:
        AdapterFileError: missing, truncated, altered, or of another format.
    """
    path = _with_suffix(stem, ".safetensors")
    if not path.is_file():
        raise AdapterFileError(f"{path}: there is no such adapter file")
    try:
        with safe_open(path, framework="pt") as file:
            raw = (file.metadata() or {}).get(_HEADER_KEY)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterFileError(f"{path}: truncated or corrupt: {error}") from error
    if raw is None:
        raise AdapterFileError(f"{path}: not an adapter file: the header `{_HEADER_KEY}` is missing")
    header = _parse_header(raw, path)
    _check_adapters(header["adapters"], tensors, path)
    order = header.get("order", list(header["adapters"]))
    if not isinstance(order, list) or sorted(map(str, order)) != sorted(header["adapters"]):
        raise AdapterFileError(f"{path}: the header's order is not one of its adapters: {order!r}")
    header["adapters"] = {name: header["adapters"][name] for name in order}
    if digest(tensors) != header["tensor_sha256"]:
        raise AdapterFileError(f"{path}: corrupt: the tensors do not have the hash {header['tensor_sha256']}")
    return _checked_json(_with_suffix(stem, ".json"), header), tensors


def knows_order(header: Mapping[str, Any]) -> bool:
    """Whether adapters and hosts stand in their order: headers were sorted once, and the .json beside them never."""
    return next(iter(header)) == "format"


def check_classes(path: str | Path, name: str, config: Any, allow: Collection[str | type]) -> None:
    """Refuse an adapter of a file whose config names a class that is neither registered nor allowed.

    Raises:
        AdapterFileError: it does. Nothing of that class has been imported.
    """
    for target in unregistered_targets(config, allow):
        raise AdapterFileError(
            f"{path}: adapter `{name}` names the class {target!r}, which is not registered in ADAPTERS or STRATEGIES "
            f"of harness.adapters; if you trust it, load the file with allow=[{target!r}]"
        )


def _parse_header(raw: str | bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise AdapterFileError(f"{path}: truncated or corrupt: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise AdapterFileError(f"{path}: not a file of the format {FORMAT}")
    if header.get("format_version") != FORMAT_VERSION:
        raise AdapterFileError(
            f"{path}: format version {header.get('format_version')}, but this package reads {FORMAT_VERSION}"
        )
    missing = [field for field in _FIELDS if field not in header]
    if missing:
        raise AdapterFileError(f"{path}: the header lacks {', '.join(missing)}")
    if not isinstance(header["base_fingerprint"], str):
        raise AdapterFileError(f"{path}: the header's base_fingerprint is no text: {header['base_fingerprint']!r}")
    return header


def _check_adapters(adapters: Any, tensors: Mapping[str, Tensor], path: Path) -> None:
    if not isinstance(adapters, dict):
        raise AdapterFileError(f"{path}: the header's adapters are a {type(adapters).__name__}, not a mapping of names")
    for name, described in adapters.items():
        where = f"{path}: the header's adapter {name!r}"
        fields = {"module": str, "config": dict, "hosts": dict}
        if not isinstance(described, dict) or not all(isinstance(described.get(k), t) for k, t in fields.items()):
            raise AdapterFileError(f"{where} has no module, config and hosts")
        if described.get("hosts_are", BY_POSITION) != BY_POSITION:
            raise AdapterFileError(f"{where} names its hosts by {described['hosts_are']!r}, which is unknown")
        for host, entry in described["hosts"].items():
            kinds = {"enabled": bool, "keys": list, "probe": list}
            if not isinstance(entry, dict) or not all(isinstance(entry.get(k), t) for k, t in kinds.items()):
                raise AdapterFileError(f"{where} does not say enabled, keys and probe of its host {host}")
            if not isinstance(entry.get("extra", {}), dict):
                raise AdapterFileError(f"{where} has an extra state of its host {host} that is no mapping")
            absent = sorted({*map(str, entry["keys"]), *map(str, entry["probe"])} - tensors.keys())
            if absent:
                raise AdapterFileError(f"{where} names tensors that the file does not have: {', '.join(absent)}")


def _checked_json(path: Path, header: dict[str, Any]) -> dict[str, Any]:
    """The header as the .json file has it, which is in order in older files too; without one, the header itself."""
    if not path.is_file():
        return header
    same = _parse_header(path.read_bytes(), path)
    if same != header:
        raise AdapterFileError(
            f"{path}: does not belong to the .safetensors file next to it, which holds the same header; "
            "remove the .json file to load without it"
        )
    return same


def _with_suffix(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)  # not Path.with_suffix: a name may have dots


def _package_version() -> str:
    try:
        return metadata.version("harness")
    except metadata.PackageNotFoundError:
        return "unknown"
