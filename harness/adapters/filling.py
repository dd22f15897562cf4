"""Give an adapter that is in place the weights of a file, and check that it computes what it did when it was saved."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters.adapter_file import AdapterFileError
from harness.adapters.module_mixin import AdapterModuleMixin
from harness.adapters.plain_values import decode

_PROBE_TOLERANCE = 1e-7  # relative to the largest output; float64 rounding stays far below


def fill_adapter(
    hosts: Mapping[str, AdapterModuleMixin],
    stem: Path,
    name: str,
    named: str,
    described: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    device: Any,
    strict: bool = True,
) -> None:
    """Give an adapter that is in place the weights of a file.

    Args:
        hosts: path -> host, of all that the file names.
        stem: of the file, for errors.
        name: of the adapter in the file.
        named: in the hosts.
        described, tensors: of the file.

    Raises:
        AdapterFileError: the tensors do not fit.
    """
    for path, entry in described["hosts"].items():
        adapter = hosts[path].adapter_layer[named]
        state: dict[str, Any] = {key.removeprefix(f"{name}/{path}/"): tensors[key] for key in entry["keys"]}
        try:
            state |= {key: decode(value, tensors, None) for key, value in entry.get("extra", {}).items()}
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise AdapterFileError(f"{stem}: adapter `{name}` in {path}: corrupt extra state: {error!r}") from error
        load_state(adapter, state, device, strict, f"{stem}: adapter `{name}` in {path}")


def load_state(adapter: nn.Module, state: Mapping[str, Any], device: Any, strict: bool, place: str) -> None:
    """Load an adapter's tensors, in their own type, and its extra state; and move it to a device.

    Raises:
        AdapterFileError: the tensors do not fit the adapter.
    """
    floats = (value for value in state.values() if isinstance(value, Tensor) and value.is_floating_point())
    dtype = next((value.dtype for value in floats), None)
    adapter.to(device=device, dtype=dtype)
    left = dict(state)
    for path, module in adapter.named_modules():
        for name, buffer in module._buffers.items():
            key = f"{path}.{name}" if path else name
            is_unknown = name in module._non_persistent_buffers_set  # to load_state_dict
            if key in left and (buffer is None or is_unknown):
                module._buffers[name] = left[key].to(device, copy=True)
                left = {other: value for other, value in left.items() if other != key or not is_unknown}
    try:
        adapter.load_state_dict(left, strict=strict)
    except RuntimeError as error:
        raise AdapterFileError(f"{place}: {' '.join(str(error).split())}") from error


@torch.no_grad()
def run_probe(host: AdapterModuleMixin, name: str, x: Tensor) -> Tensor:
    """Run a float64 copy of the adapters of a host, on the CPU and in eval mode, through one strategy.

    float64, because in float32 the rounding of another processor can hide a change of the code.

    Args:
        host: it is left as it was.
        name: the adapter to run.
        x: its input, [B, ..., D], float64.
    """
    module: Any = host
    layer = host.adapter_layer
    registries = [m._registry for m in layer.modules() if isinstance(getattr(m, "_registry", None), dict)]
    empty: dict[int, Any] = {id(registry): {} for registry in registries}  # graphs cannot be copied
    twin = copy.deepcopy(layer, empty).to("cpu", torch.float64).eval()
    mode = module.training
    module._modules["adapter_layer"], module.training = twin, False
    try:
        adapter: Any = twin[name]
        output: Tensor = host.forward_single_enabled_adapter_(
            x, adapter, adapter_name=name, adapter_strategy=adapter.adapter_strategy
        )
    finally:
        module._modules["adapter_layer"], module.training = layer, mode
    return output


def check_probes(
    hosts: Mapping[str, AdapterModuleMixin],
    stem: Path,
    name: str,
    named: str,
    described: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
) -> None:
    """Check that an adapter computes what it did when it was saved; arguments as for `fill_adapter`.

    Call it when all adapters of the hosts are in place: a fusion runs others, which may come after it.

    Raises:
        AdapterFileError: it does not.
    """
    for path, entry in described["hosts"].items():
        if entry["probe"]:
            _check_probe(hosts[path], name, named, path, tensors, stem)


def _check_probe(
    host: AdapterModuleMixin, name: str, named: str, path: str, tensors: Mapping[str, Tensor], stem: Path
) -> None:
    prefix = f"probe/{name}/{path}"
    expected = tensors[f"{prefix}/output"]
    output = run_probe(host, named, tensors[f"{prefix}/input"])
    drift = f"in shape: {list(output.shape)} instead of {list(expected.shape)}"
    if output.shape == expected.shape:
        scale = expected.abs().nan_to_num().max().clamp(min=1.0)
        if torch.allclose(output / scale, expected / scale, rtol=0.0, atol=_PROBE_TOLERANCE, equal_nan=True):
            return
        drift = f"by up to {float((output - expected).abs().max()):.3g}"
    raise AdapterFileError(
        f"{stem}: adapter `{name}` in {path} no longer computes what it did when it was saved: its output "
        f"for the stored probe differs {drift}; code that it depends on has changed, or its output depends on what "
        "is neither weight nor buffer nor extra state"
    )
