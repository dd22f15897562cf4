"""Checkpoints from which a killed trial goes on to bit-identical results.

One safetensors file holds every tensor (weights that learn, optimizer moments, best weights) and, in its header, the
plain values as JSON together with a SHA-256 of all of it. Never a pickle. Written to a temporary file, then renamed: a
kill or a full disk leaves the previous checkpoint as it was. A training waits for the disk every `SYNC_S` seconds only,
which is longer than many an epoch: so much, and the epoch under way, is what a power cut can cost it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_arrays
from safetensors.torch import save
from torch import Tensor

from harness.disk import write_atomically
from harness.errors import TrialError, first_line
from harness.tensors import digest


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors and JSON values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with `prefix/`, without it."""
        return {
            name.removeprefix(f"{prefix}/"): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(f"{prefix}/")
        }


SYNC_S = 2.0
IN_NUMPY = (torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool)


def save_checkpoint(path: Path, checkpoint: Checkpoint, *, sync: bool = True) -> None:
    """Write a checkpoint atomically.

    Args:
        sync: wait until it is on the disk. Else a power cut may leave a damaged one, and the trial begins anew.

    Raises:
        TrialError: the disk is full or not writable (reason `disk`); the previous checkpoint is untouched.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    values = json.dumps(checkpoint.values)
    write_atomically(path, _bytes_of(tensors, {"values": values, "sha256": _sha256(tensors, values)}), sync=sync)


def _bytes_of(tensors: dict[str, Tensor], header: dict[str, str]) -> bytes:
    """The file's content; of small tensors, the writer for NumPy's arrays takes a quarter of the time of torch's."""
    if all(tensor.dtype in IN_NUMPY for tensor in tensors.values()):
        written: bytes = save_arrays({name: tensor.numpy() for name, tensor in tensors.items()}, header)
        return written
    return save(tensors, header)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and verify it.

    Raises:
        TrialError: it is damaged (reason `damaged`); the message says how to go on.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        values = json.loads(header["values"])
        if _sha256(tensors, header["values"]) != header["sha256"]:
            raise ValueError("its contents differ from their SHA-256")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        advice = f"damaged checkpoint ({first_line(error)}); delete it to train from the start"
        raise TrialError("damaged", f"{path}: {advice}") from error
    return Checkpoint(tensors, values)


def _sha256(tensors: dict[str, Tensor], values: str) -> str:
    return hashlib.sha256(f"{digest(tensors)}{values}".encode()).hexdigest()


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """Flatten the optimizer's state: `PARAMETER/FIELD` -> tensor; `names` in the order of its parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        f"{name}/{field}": value
        for name, parameter in zip(names, parameters, strict=True)
        for field, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str], tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, parameter in zip(names, parameters, strict=True):
        fields = {key.rsplit("/", 1)[1]: tensor for key, tensor in tensors.items() if key.rsplit("/", 1)[0] == name}
        if fields:
            # Optimizers keep `step` on the CPU whatever the parameter's device.
            optimizer.state[parameter] = {
                key: tensor if key == "step" else tensor.to(parameter.device) for key, tensor in fields.items()
            }
