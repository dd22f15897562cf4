"""Hooks that put an insertion point at any module of a model whose code stays as it is.

`attach_by_hook` puts it behind an existing module, `attach_before` before one, and `attach_beside` a BesidePoint beside
one:

    behind    x -> module -> y -> adapter -> merged with y       in series, as Houlsby et al. 2019
    before    x -> adapter -> merged with x -> module -> y       in series, as (IA)^3 (Liu et al. 2022) in the FFN
    beside    x -> module -> y, x -> adapter -> merged with y    in parallel, as LoRA (Hu et al. 2021)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from harness.adapters.insertion import BesidePoint, InsertionPoint


class _InsertBehind:
    """A forward hook; an object, not a closure, so that a deepcopy of the model hooks the copied point."""

    def __init__(self, point: InsertionPoint, steps_first: bool) -> None:
        self.point, self.steps_first = point, steps_first

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        if not self.point.get_enabled_adapters() and not self.point._forward_hooks:
            return None  # leaves the output object as it is
        return _with_first(output, self._insert(_first_of(output, module)))

    def _insert(self, *tensors: Tensor) -> Tensor:
        """Pass tensors [B, T, ...] (or [T, B, ...]) to the point: what the module gave, and for some what it read."""
        if self.steps_first:
            tensors = tuple(tensor.transpose(0, 1) for tensor in tensors)
        x_BTD, valid = tensors[0], self.point.valid_frames
        if valid is not None and x_BTD.ndim == 3 and x_BTD.shape[1] > valid.shape[1]:
            # The module has padded its steps on the right by itself: the point is to see those of the batch alone.
            num_steps = valid.shape[1]
            seen = self.point(*(tensor[:, :num_steps] for tensor in tensors))
            x_BTD = torch.cat([seen, x_BTD[:, num_steps:]], dim=1)
        else:
            x_BTD = self.point(*tensors)
        return x_BTD.transpose(0, 1) if self.steps_first else x_BTD


class _InsertBefore(_InsertBehind):
    """A hook in front of a module: its first argument passes through the point."""

    def __call__(self, module: nn.Module, args: Any, options: Any) -> Any:
        if not self.point.get_enabled_adapters():
            return None
        read = self._insert(_first_argument(module, args, options, "attach_before"))
        if args:
            return (read, *args[1:]), options
        return args, {**options, next(iter(options)): read}


class _KeepRead:
    """A hook in front of a module that keeps its first argument until a BesidePoint's hook takes it."""

    def __init__(self, point: InsertionPoint) -> None:
        self.point = point
        self.kept: Tensor | None = None

    def __call__(self, module: nn.Module, args: Any, options: Any) -> None:
        if self.point.get_enabled_adapters():
            self.kept = _first_argument(module, args, options, "attach_beside")

    def take(self, module: nn.Module) -> Tensor:
        """What was kept in this pass, for the hook of a module that ran behind."""
        kept, self.kept = self.kept, None
        if kept is None:
            raise RuntimeError(f"attach_beside: what is read beside {type(module).__name__} has to run before it")
        return kept


class _MergeBeside(_InsertBehind):
    """The hook of a BesidePoint.

    Args:
        keep: has what adapters read; None: what the module itself reads.
    """

    def __init__(self, point: InsertionPoint, steps_first: bool, keep: _KeepRead | None = None) -> None:
        super().__init__(point, steps_first)
        self.keep = keep

    def __call__(self, module: nn.Module, args: Any, options: Any, output: Any = None) -> Any:  # type: ignore[override]
        if not self.point.get_enabled_adapters():
            return None
        keep = self.keep
        reads = _first_argument(module, args, options, "attach_beside") if keep is None else keep.take(module)
        return _with_first(output, self._insert(_first_of(output, module), reads))


def _first_argument(module: nn.Module, args: Any, options: Any, caller: str) -> Tensor:
    """The tensor that a module is called with first."""
    first = args[0] if args else next(iter(options.values()), None)
    if isinstance(first, Tensor):
        return first
    raise TypeError(f"{caller}: the first argument of {type(module).__name__} has to be a tensor, but is {first!r}")


def _first_of(output: Any, module: nn.Module) -> Tensor:
    """The tensor that a module gives, or the first of several."""
    first = output[0] if isinstance(output, (tuple, list)) and output else output
    if isinstance(first, Tensor):
        return first
    raise TypeError(
        f"attach_by_hook: the output of {type(module).__name__} has to be a tensor or a tuple that "
        f"starts with one, but it is {type(output).__name__}"
    )


def _with_first(output: Any, first: Tensor) -> Any:
    """What a module gave, with another first tensor."""
    if isinstance(output, Tensor):
        return first
    replaced = (first, *output[1:])
    if hasattr(output, "_make"):
        return output._make(replaced)
    return replaced if isinstance(output, tuple) else list(replaced)


def attach_by_hook(module: nn.Module, point: InsertionPoint, *, steps_first: bool = False) -> RemovableHandle:
    """Put an insertion point behind an existing module.

    The point is not made a child of the module: keep it in the model yourself (for instance in a
    ModuleList), so that its parameters, state and mode are found.

    Args:
        module: its output is [..., D], or a tuple or list whose first item is.
        point: the point that the output passes through.
        steps_first: the output is [T, B, D]; the point sees [B, T, D].

    Returns:
        The handle; `handle.remove()` takes the point out.
    """
    return module.register_forward_hook(_InsertBehind(point, steps_first))


def attach_before(module: nn.Module, point: InsertionPoint, *, steps_first: bool = False) -> RemovableHandle:
    """Put an insertion point before an existing module; as `attach_by_hook`.

    Args:
        module: its first argument is [..., D].
        point: the point that this argument passes through.
        steps_first: the argument is [T, B, D]; the point sees [B, T, D].
    """
    return module.register_forward_pre_hook(_InsertBefore(point, steps_first), with_kwargs=True)


class _BothHandles(RemovableHandle):
    """The handle of two hooks that work together."""

    def __init__(self, *handles: RemovableHandle) -> None:
        self.handles = handles

    def remove(self) -> None:
        """Remove both: the one that keeps what it sees would hold on to it for ever."""
        for handle in self.handles:
            handle.remove()


def attach_beside(
    module: nn.Module, point: BesidePoint, *, steps_first: bool = False, reads: nn.Module | None = None
) -> RemovableHandle:
    """Put an insertion point beside an existing module; as `attach_by_hook`.

    Args:
        module: its first argument is [..., reads_dim], its output [..., D] or a tuple or list that starts with that.
        point: merges what its adapters make of the argument with the output.
        steps_first: both are [T, B, ...]; the point sees [B, T, ...].
        reads: another module, which runs before: adapters read its first argument instead.
    """
    if reads is None:
        return module.register_forward_hook(_MergeBeside(point, steps_first), with_kwargs=True)
    keep = _KeepRead(point)
    reading = reads.register_forward_pre_hook(keep, with_kwargs=True)
    return _BothHandles(module.register_forward_hook(_MergeBeside(point, steps_first, keep), with_kwargs=True), reading)
