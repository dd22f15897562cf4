"""Give an adapter that is in place the weights of a file, and check that it computes what it did when it was saved."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters.adapter_file import AdapterFileError
from harness.adapters.module_mixin import AdapterModuleMixin
from harness.adapters.plain_values import decode
from harness.adapters.widths import open_width, with_width

_PROBE_TOLERANCE = 1e-7  # relative to the largest output; float64 rounding stays far below


@dataclass(frozen=True)
class FiledAdapter:
    """One adapter of a file.

    Attributes:
        stem: of the file, for errors.
        name: in the file.
        described: its entry in the header (harness.adapters.adapter_file).
        tensors: of the file.
    """

    stem: Path
    name: str
    described: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def hosts(self) -> Mapping[str, Any]:
        """Path -> what the file says of the host there."""
        hosts: Mapping[str, Any] = self.described["hosts"]
        return hosts

    @property
    def config(self) -> dict[str, Any]:
        """Its config, with a width for each of its hosts where they differ.

        Raises:
            ValueError: the file says no width of a host.
        """
        config: dict[str, Any] = self.described["config"]
        mixed = open_width(config)
        return config if mixed is None else with_width(config, mixed[0], self.widths)

    @property
    def widths(self) -> list[Any] | None:
        """Where they differ, the width of each host: those in `config` would be taken for those of layers."""
        mixed = open_width(self.described["config"])
        return None if mixed is None else [entry.get("width") for entry in self.hosts.values()]

    def own_tensors(self, path: str) -> dict[str, Tensor]:
        """Its tensors in a host, by their names in the adapter."""
        return {key.removeprefix(f"{self.name}/{path}/"): self.tensors[key] for key in self.hosts[path]["keys"]}

    def fill(self, hosts: Mapping[str, AdapterModuleMixin], named: str, device: Any, strict: bool = True) -> None:
        """Give an adapter that is in place its weights.

        Args:
            hosts: path -> host, of all that the file names.
            named: the adapter's name there.

        Raises:
            AdapterFileError: the tensors do not fit.
        """
        for path, entry in self.hosts.items():
            place, state = f"{self.stem}: adapter `{self.name}` in {path}", dict[str, Any](self.own_tensors(path))
            try:
                state |= {key: decode(value, self.tensors, None) for key, value in entry.get("extra", {}).items()}
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise AdapterFileError(f"{place}: corrupt extra state: {error!r}") from error
            load_state(hosts[path].adapter_layer[named], state, device, strict, place)

    def check_outputs(self, hosts: Mapping[str, AdapterModuleMixin], named: str) -> None:
        """Check that an adapter computes what it did when it was saved; arguments as for `fill`.

        Call it when all adapters of the hosts are in place: a fusion runs others, which may come after it.

        Raises:
            AdapterFileError: it does not.
        """
        for path, entry in self.hosts.items():
            if entry["probe"]:
                self._check_output(hosts[path], named, path)

    def _check_output(self, host: AdapterModuleMixin, named: str, path: str) -> None:
        prefix = f"probe/{self.name}/{path}"
        expected = self.tensors[f"{prefix}/output"]
        output = run_probe(host, named, self.tensors[f"{prefix}/input"])
        drift = f"in shape: {list(output.shape)} instead of {list(expected.shape)}"
        if output.shape == expected.shape:
            scale = expected.abs().nan_to_num().max().clamp(min=1.0)
            if torch.allclose(output / scale, expected / scale, rtol=0.0, atol=_PROBE_TOLERANCE, equal_nan=True):
                return
            drift = f"by up to {float((output - expected).abs().max()):.3g}"
        raise AdapterFileError(
            f"{self.stem}: adapter `{self.name}` in {path} no longer computes what it did when it was saved: its "
            f"output for the stored probe differs {drift}; code that it depends on has changed, or its output depends "
            "on what is neither weight nor buffer nor extra state"
        )


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
