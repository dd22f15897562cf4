"""What is refused of new adapters at an insertion point, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters import BesidePoint, InsertionPoint
from harness.config.adapters import Member
from harness.errors import UserError, no_exits, text_of


@torch.enable_grad()
def check_shape(point: InsertionPoint, members: Sequence[Member]) -> None:
    """Pass a small input through new adapters: they must run, and give the input's shape.

    Args:
        point: where they are.
        members: of the point, in their order.

    Raises:
        UserError: they fail, give another shape, change their input in place, or a strategy never runs one that is to
            learn.
    """
    place = members[0].place if len(members) == 1 else "adapters"
    called = ", ".join(member.called for member in members)
    weight = next(point.parameters())
    probe = torch.zeros(2, 3, point.dim, dtype=weight.dtype, device=weight.device)
    valid, point.valid_frames = point.valid_frames, torch.ones(2, 3, dtype=torch.bool, device=weight.device)
    was_training = point.training
    try:
        point.eval()
        with no_exits():
            output = point(probe)
    # A user's own class may raise anything: it is told as their mistake, with the class and the cause.
    except Exception as error:
        cause = " ".join(f"{type(error).__name__}: {text_of(error)}".split())
        raise UserError(f"{place}: {called} fails on a [2, 3, {point.dim}] input: {cause}") from error
    finally:
        point.train(was_training)
        point.valid_frames = valid
    if probe._version:  # torch counts the changes in place of each tensor
        raise UserError(
            f"{place}: {called} changes its input in place, which the model and its cache still need; "
            "write x = x + y rather than x += y in adapters and strategies"
        )
    if output.shape != probe.shape:
        shapes = f"{list(output.shape)} for an input of shape {list(probe.shape)}"
        raise UserError(f"{place}: {called} returns shape {shapes}; both must be equal")
    for member in members:
        learnt = [weight for weight in point.adapter_layer[member.name].parameters() if weight.requires_grad]
        if member.trainable and not _reaches(output, learnt):
            raise UserError(
                f"{member.place}: the output depends on no weight of {member.called}, so the trial would train nothing"
                + ("" if member.in_chain else " there (in_chain: false, and no other adapter's strategy reaches it)")
            )


def _reaches(output: Tensor, weights: Sequence[Tensor]) -> bool:
    """Whether a gradient gets from an output to one of some weights."""
    if not output.requires_grad or not weights:
        return False
    found = torch.autograd.grad(output.sum(), weights, allow_unused=True, retain_graph=True)
    return any(gradient is not None for gradient in found)


def check_fusions(point: InsertionPoint, members: Sequence[Member]) -> None:
    """Refuse two fusions: the record of a trial has the attention of one.

    Raises:
        UserError: several adapters in the chain merge others by attention.
    """
    fusions = [one for one in members if one.in_chain and hasattr(point.adapter_layer[one.name], "take_attention")]
    if len(fusions) > 1:
        raise UserError(
            f"{', '.join(one.place for one in fusions)}: each merges other adapters; a trial has one of them"
        )


def check_strategy(name: str, point: InsertionPoint, member: Member, adapter: nn.Module) -> None:
    """Refuse what works behind a module alone, before anything is trained.

    Raises:
        UserError: the adapter is beside a module or reads the mask of a batch, and its strategy runs it on some rows.
    """
    strategy: Any = getattr(adapter, "adapter_strategy", None)
    if not getattr(strategy, "skip_dropped", False):
        return
    why = "reads another tensor than the one it is merged with" if isinstance(point, BesidePoint) else None
    if any(hasattr(type(module), "valid_frames") for module in adapter.modules()):
        why = "has an adapter that reads which steps of the whole batch are real"
    if why is not None:
        raise UserError(
            f"{member.place}.adapter_strategy.skip_dropped: true: {name} {why}, so rows cannot be left out; set it to "
            "false, which gives the same numbers"
        )
