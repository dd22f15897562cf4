"""A trial's weights as one row of numbers: what the optimizer works on, and views of it for the model.

Bottlenecks are zero-padded to a common width. That is exact: a padded unit's weights, gradients and moments stay 0,
since every activation that an adapter may have maps 0 to 0.

Shape legend: K trials, P numbers in a row (all weights that learn, padded).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.adapters.linear import LinearAdapter
from harness.backbones.model import TaskModel
from harness.engines.packed.packable import padded_width


@dataclass(frozen=True)
class Entry:
    """One weight: its name in the model, its padded shape, and where it begins in the row."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        return torch.Size(self.shape).numel()


@dataclass(frozen=True)
class Layout:
    """All weights that learn, in the model's order."""

    entries: tuple[Entry, ...]

    @property
    def num_columns(self) -> int:
        last = self.entries[-1]
        return last.offset + last.size

    def leaves(self, rows_KP: Tensor) -> dict[str, Tensor]:
        """Each weight of some trials as a leaf of autograd, [K, ...], in the memory of `rows_KP`."""
        leaves = {}
        for entry in self.entries:
            columns = rows_KP[:, entry.offset : entry.offset + entry.size]
            leaves[entry.name] = columns.view(-1, *entry.shape).detach().requires_grad_(True)
        return leaves

    @torch.no_grad()
    def write(self, row_P: Tensor, values: Sequence[Tensor]) -> None:
        """Put weights of their true shapes into a row, zeros around them."""
        row_P.zero_()
        for view, value in zip(self._views(row_P, values), values, strict=True):
            view.copy_(value)

    @torch.no_grad()
    def read(self, row_P: Tensor, into: Sequence[Tensor]) -> None:
        """Copy a row into weights of their true shapes."""
        for view, value in zip(self._views(row_P, into), into, strict=True):
            value.copy_(view)

    def _views(self, row_P: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
        views = []
        for entry, tensor in zip(self.entries, like, strict=True):
            view = row_P[entry.offset : entry.offset + entry.size].reshape(entry.shape)
            for axis, size in enumerate(tensor.shape):
                if view.shape[axis] != size:
                    view = view.narrow(axis, 0, size)
            views.append(view)
        return views


def layout_of(model: TaskModel) -> Layout:
    """The layout of a packable trial's weights that require a gradient."""
    padded: dict[str, tuple[int, ...]] = {}
    for path, module in model.named_modules():
        if isinstance(module, LinearAdapter):
            down = next(layer for layer in module.module if isinstance(layer, torch.nn.Linear))
            width = padded_width(down.out_features)
            for name, weight in module.named_parameters():
                shape = tuple(weight.shape)
                if weight.ndim == 2:  # [H, D], then [D, H]; told apart by identity, as D may be H
                    shape = (width, shape[1]) if weight is down.weight else (shape[0], width)
                padded[f"{path}.{name}"] = shape
    entries, offset = [], 0
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            entries.append(Entry(name, padded.get(name, tuple(weight.shape)), offset))
            offset += entries[-1].size
    return Layout(tuple(entries))
