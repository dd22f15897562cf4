"""The optimizer and the learning-rate schedule of a trial.

The schedule is a pure function of progress, so a resumed trial needs no scheduler state.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from harness.config.trial import OptimSettings
from harness.errors import UserError, first_line


def lr_scale(progress: float, warmup: float, decay: str) -> float:
    """Factor on the learning rate at `progress` in [0, 1] (share of all steps that are done).

    Linear warm-up over the first `warmup` share; after it none, linear to zero, or half a cosine to zero.
    """
    if progress < warmup:
        return progress / warmup
    if decay == "none":
        return 1.0
    rest = (progress - warmup) / (1.0 - warmup) if warmup < 1.0 else 1.0
    return 1.0 - rest if decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * rest))


def lr_at(settings: OptimSettings, progress: float, num_steps: int) -> float:
    """The learning rate of the step that is taken at `progress`, of a training of `num_steps` steps.

    The first step of a warm-up has learning rate 0. Where the warm-up is shorter than a step, or the step is the only
    one, it would be all of the warm-up and teach nothing: then there is none.
    """
    is_short = num_steps == 1 or settings.warmup * num_steps < 1
    return settings.lr * lr_scale(progress, 0.0 if is_short else settings.warmup, settings.decay)


def make_adamw(parameters: Iterable[nn.Parameter], settings: OptimSettings) -> torch.optim.AdamW:
    """AdamW over the trainable weights; weight decay applies to all of them, as NeMo's adapter recipes do."""
    return torch.optim.AdamW(
        list(parameters), lr=settings.lr, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
    )


def check_optim(settings: OptimSettings, dtype: torch.dtype) -> None:
    """Take a step of AdamW on two weights, one of them without a gradient, as a trial's first step may be.

    Raises:
        UserError: AdamW refuses a setting, or the weights are not finite afterwards.
    """
    weights = nn.Parameter(torch.zeros(2, dtype=dtype))
    weights.grad = torch.tensor([0.0, 1.0], dtype=dtype)
    try:
        make_adamw([weights], settings).step()
        cause = None if weights.isfinite().all() else f"in {dtype} they give weights that are not finite"
    except (RuntimeError, ValueError, OverflowError) as error:
        cause = first_line(error)
    if cause is not None:
        given = ", ".join(f"{name} {getattr(settings, name)}" for name in ("lr", "betas", "eps", "weight_decay"))
        raise UserError(f"optim: AdamW cannot train with {given}: {cause}")


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
