"""Whether this machine has the device that a config names."""

from __future__ import annotations

import torch

from harness.errors import UserError


def check_device(name: str) -> None:
    """Check that a device exists, before anything is trained.

    Raises:
        UserError: it is no device's name, or there is no such device here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"loop.device: {name!r} is not a device; choices: cpu, cuda, cuda:N, mps") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            there = ", ".join(["cpu", *(f"cuda:{number}" for number in range(count))])
            raise UserError(f"loop.device: this machine has no {name!r} (torch {torch.__version__}); choices: {there}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"loop.device: this machine has no {name!r} (torch {torch.__version__}); choices: cpu")
