"""What `loop.precision` means: the dtype of the weights, and for bfloat16 torch's autocast over float32 weights."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from harness.config.trial import LoopSettings


def dtype_of(loop: LoopSettings) -> torch.dtype:
    """The dtype of a training's weights and of what reaches its cut; bfloat16 keeps both in float32."""
    return torch.float64 if loop.precision == "float64" else torch.float32


def autocast(device: torch.device, precision: str, keep_casts: bool = True) -> AbstractContextManager[object]:
    """The context of a forward pass that learns; scoring has none, in any precision.

    Args:
        device: where it runs.
        precision: `loop.precision`.
        keep_casts: keep a weight's cast for the rest of the pass. Not in a CUDA graph: it would outlive the pass.
    """
    if precision != "bfloat16":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=keep_casts)
