"""The optimizer and the learning-rate schedule of a trial.

The schedule is a pure function of progress, so a resumed trial needs no scheduler state.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Container, Sequence
from typing import Any

import torch
from torch import nn

from harness.config.trial import OptimSettings
from harness.errors import UserError, first_line

Named = tuple[str, nn.Parameter]
CLASSES = {"adamw": "AdamW", "sgd": "SGD", "adafactor": "Adafactor"}


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


PARTS = ("encoder", "adapters", "head")  # of the weights; groups of them lie in this order


def part_of(named: Named, adapters: Container[int]) -> str:
    """The part that a weight is of.

    Args:
        named: the weight and its name in the model.
        adapters: the ids of those that learn with adapters (TaskModel.learnt_with_adapters).
    """
    name, weight = named
    if id(weight) in adapters:
        return "adapters"
    return "head" if name.startswith("head.") else "encoder"


def in_order(named: Sequence[Named], settings: OptimSettings, adapters: Container[int] = ()) -> list[Named]:
    """Weights in the order that an optimizer has them in: those of a group side by side, where there are groups.

    Args:
        named, settings, adapters: see `part_of` and `make_optimizer`.
    """
    return sorted(named, key=lambda pair: PARTS.index(part_of(pair, adapters))) if settings.groups else list(named)


def make_optimizer(
    named: Sequence[Named], settings: OptimSettings, adapters: Container[int] = ()
) -> torch.optim.Optimizer:
    """The optimizer over the trainable weights; weight decay applies to all of them, as NeMo's adapter recipes do.

    Args:
        named: the weights, by their names in the model, in their order (`in_order`).
        adapters: see `part_of`.

    Raises:
        UserError: a group has no weights.
    """
    if not settings.groups:
        return _make([weight for _, weight in named], settings)
    groups: list[dict[str, Any]] = []
    for part in PARTS:
        own = settings.groups.get(part)  # type: ignore[call-overload]
        weights = [pair[1] for pair in named if part_of(pair, adapters) == part]
        if own is not None and not weights:
            trained = ", ".join(dict.fromkeys(part_of(pair, adapters) for pair in named))
            raise UserError(f"optim.groups: {part}: no weight of it is trained here; trained: {trained}")
        if weights:
            lr, decay = (None, None) if own is None else (own.lr, own.weight_decay)
            groups.append(
                {
                    "params": weights,
                    "share": 1.0 if lr is None else lr / settings.lr,  # of the learning rate, at any time
                    "weight_decay": settings.weight_decay if decay is None else decay,
                }
            )
    return _make(groups, settings)


def _make(weights: Any, settings: OptimSettings) -> torch.optim.Optimizer:
    _leave_out_the_compiler()
    of_kinds: dict[str, dict[str, Any]] = {
        "adamw": {"betas": settings.betas, "eps": settings.eps},
        "sgd": {"momentum": settings.momentum},
        "adafactor": {},
    }
    kind = _bare(CLASSES[settings.name])
    rest = {"weight_decay": settings.weight_decay, **of_kinds[settings.name]}
    optimizer: torch.optim.Optimizer = kind(weights, lr=settings.lr, **rest)
    return optimizer


@functools.cache
def _bare(name: str) -> Any:
    """A class of torch.optim whose `step` has nothing wrapped around it (`_leave_out_the_compiler`).

    A class, not a method put into each optimizer: that would hold its optimizer, and the optimizer it, so that the
    moments of a training that is over would wait for Python to search for such circles.
    """
    kind = getattr(torch.optim, name)
    step = torch.no_grad()(inspect.unwrap(kind.step))
    step.hooked = True  # torch's mark of a class whose step is wrapped already
    return type(name, (kind,), {"step": step})


def _leave_out_the_compiler() -> None:
    """Let torch.optim do without torch's compiler, whose import takes longer than that of torch: nothing compiles here.

    Methods of an optimizer import it at their first call, to be marked as not to be compiled, and so does what is
    wrapped around `step` (besides hooks and the profiler, which have no use here). A torch that keeps the mark
    elsewhere imports its compiler as ever.
    """
    for method in vars(torch.optim.Optimizer).values():
        plain = getattr(method, "__wrapped__", None)
        if plain is not None and not hasattr(plain, "__dynamo_disable"):
            setattr(plain, "__dynamo_disable", plain)


def check_optim(settings: OptimSettings, dtype: torch.dtype) -> None:
    """Take a step of the optimizer on two weights, one of them without a gradient, as a trial's first step may be.

    Raises:
        UserError: the optimizer refuses a setting, or the weights are not finite afterwards.
    """
    weights = nn.Parameter(torch.zeros(2, dtype=dtype))
    weights.grad = torch.tensor([0.0, 1.0], dtype=dtype)
    try:
        _make([weights], settings).step()
        cause = None if weights.isfinite().all() else f"in {dtype} they give weights that are not finite"
    except (RuntimeError, ValueError, OverflowError) as error:
        cause = first_line(error)
    if cause is not None:
        names = {"adamw": ("betas", "eps"), "sgd": ("momentum",)}.get(settings.name, ())
        given = ", ".join(f"{name} {getattr(settings, name)}" for name in ("lr", *names, "weight_decay"))
        raise UserError(f"optim: {CLASSES[settings.name]} cannot train with {given}: {cause}")


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group: this one, or the group's share of it."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("share", 1.0)
