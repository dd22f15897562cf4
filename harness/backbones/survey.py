"""What a pass of an encoder meets in its layers: which modules are called, in which order, with which widths.

The names of modules do not tell: q_proj may be registered behind k_proj and called before it, and some attention takes
the weights of a linear module that it never calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters import InsertionPoint


@dataclass(frozen=True)
class SeenModule:
    """A module in a layer, as one pass met it.

    Attributes:
        path: in the encoder.
        layer: from 0.
        kind: its class.
        is_linear: whether an adapter goes beside it, if it is only named.
        is_leaf: whether it has no modules of its own.
        has_norm: whether it holds a norm of the encoder's width, as a part that adds its residual itself does.
        num_runs: how often the pass called it, over how often it called its layer.
        begins: when its last run began, among all beginnings and ends.
        order: when that ended.
        reads: the width of its first argument, if that is [B, T, D] with the steps of its layer.
        gives: the width of its output, in the same way.
        steps_first: whether its layer has [T, B, D].
        shape: of its output, for people.
    """

    path: str
    layer: int
    kind: str
    is_linear: bool
    is_leaf: bool
    has_norm: bool
    num_runs: float = 0.0
    begins: int = -1
    order: int = -1
    reads: int | None = None
    gives: int | None = None
    steps_first: bool = False
    shape: str = ""


@dataclass
class _Watched:
    """What a pass shows of one module."""

    num_runs: int = 0
    begins: int = -1
    order: int = -1
    reads: tuple[int, ...] = ()
    gives: tuple[int, ...] = ()


@torch.no_grad()
def survey(root: nn.Module, layers: nn.ModuleList, dim: int, run: Callable[[], int]) -> tuple[SeenModule, ...]:
    """Watch one pass of an encoder.

    Args:
        root: the encoder.
        layers: its layers.
        dim: their width.
        run: makes the pass; returns the number of items in it, which is not the number of their steps.
    """
    base = next(name for name, module in root.named_modules() if module is layers)
    found: dict[str, tuple[int, nn.Module, _Watched]] = {}
    for number, layer in enumerate(layers):
        for name, module in _modules_in(layer):
            path = ".".join(filter(None, (base, str(number), name)))
            found[path] = number, module, _Watched()
    counter = iter(range(10**9))

    def watch(watched: _Watched, module: nn.Module, args: Any, options: Any, output: Any) -> None:
        watched.num_runs += 1
        watched.order = next(counter)  # of its last end
        watched.reads, watched.gives = _shape(args[0] if args else next(iter(options.values()), None)), _shape(output)

    def begin(watched: _Watched, module: nn.Module, args: Any) -> None:
        watched.begins = next(counter)

    handles = [
        module.register_forward_hook(partial(watch, watched), with_kwargs=True) for _, module, watched in found.values()
    ]
    handles += [module.register_forward_pre_hook(partial(begin, watched)) for _, module, watched in found.values()]
    try:
        with torch.random.fork_rng(devices=[]):
            num_rows = run()
    finally:
        for handle in handles:
            handle.remove()
    tops = [found[f"{base}.{number}"][2] for number in range(len(layers))]
    return tuple(
        _seen(path, number, module, watched, tops[number], dim, num_rows)
        for path, (number, module, watched) in found.items()
    )


def _modules_in(layer: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layer and all modules in it, without insertion points and what is in them."""
    hosts = [name for name, module in layer.named_modules() if isinstance(module, InsertionPoint)]
    for name, module in layer.named_modules():
        if not any(name == host or name.startswith(f"{host}.") for host in hosts):
            yield name, module


def _shape(value: Any) -> tuple[int, ...]:
    first = value[0] if isinstance(value, (tuple, list)) and value else value
    return tuple(first.shape) if isinstance(first, Tensor) else ()


def _seen(
    path: str, number: int, module: nn.Module, watched: _Watched, top: _Watched, dim: int, num_rows: int
) -> SeenModule:
    def width(shape: tuple[int, ...]) -> int | None:
        return shape[2] if len(shape) == 3 and len(top.gives) == 3 and shape[:2] == top.gives[:2] else None

    norms = (child for child in module.modules() if child is not module and "Norm" in type(child).__name__)
    return SeenModule(
        path=path,
        layer=number,
        kind=type(module).__name__,
        is_linear=isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D",  # GPT-2's linear module
        is_leaf=next(module.children(), None) is None,
        has_norm=any(tuple(weight.shape) == (dim,) for norm in norms for weight in norm.parameters(recurse=False)),
        num_runs=watched.num_runs / max(top.num_runs, 1),
        begins=watched.begins,
        order=watched.order,
        reads=width(watched.reads),
        gives=width(watched.gives),
        steps_first=bool(top.gives) and top.gives[0] != num_rows,
        shape=str(list(watched.gives)) if watched.gives else "no tensor",
    )
