"""A trial's weights as one row of numbers: what the optimizer works on, and views of it for the model.

Weights are zero-padded to the shapes that their adapter's packed form names, so that several widths share a pack.

Shape legend: K trials, P numbers in a row (all weights that learn, padded).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.adapters.packed import packed_adapter
from harness.backbones.model import TaskModel


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

    def names_below(self, prefix: str) -> dict[str, str]:
        """The weights whose names start with a prefix: their names without it -> their names."""
        names = [entry.name for entry in self.entries]
        return {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}

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
            # An adapter of dim 4 in a pack of dim 8: the row holds [8, D], of which the first [4, D] are its weights.
            for axis, size in enumerate(tensor.shape):
                if view.shape[axis] != size:
                    view = view.narrow(axis, 0, size)
            views.append(view)
        return views


def layout_of(model: TaskModel) -> Layout:
    """The layout of a packable trial's weights that require a gradient."""
    padded: dict[str, tuple[int, ...]] = {}
    for path, module in model.named_modules():
        form = packed_adapter(module)
        if form is not None:
            packed = form.of(module)
            for name, weight in module.named_parameters():
                padded[f"{path}.{name}"] = packed.padded_shape(name, tuple(weight.shape))
    entries, offset = [], 0
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            entries.append(Entry(name, padded.get(name, tuple(weight.shape)), offset))
            offset += entries[-1].size
    return Layout(tuple(entries))
