"""Small models and adapters that the tests of this folder share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters import AdapterModelMixin, InsertionPoint, LinearAdapter

DIM = 6
LINEAR = {"_target_": "harness.adapters.LinearAdapter", "dim": 3}


class Block(nn.Module):
    """A frozen layer with dropout and BatchNorm, and a place for adapters."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.norm = nn.BatchNorm1d(dim)
        self.dropout = nn.Dropout(0.5)
        self.point = InsertionPoint(dim)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.linear(x).transpose(1, 2)).transpose(1, 2)
        result: Tensor = self.point(self.dropout(hidden))
        return result


class TinyModel(nn.Module, AdapterModelMixin):
    """An encoder of two blocks, a decoder of one, and a head without hosts."""

    encoder: Any
    decoder: Any

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.encoder = nn.Sequential(Block(dim), Block(dim))
        self.decoder = nn.Sequential(Block(dim))
        self.head = nn.Linear(dim, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.decoder(self.encoder(x)))
        return result


class Host(nn.Module):
    """The least a strategy needs to know of its host."""

    def __init__(self, training: bool = True) -> None:
        super().__init__()
        self.train(training)


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter a random value, so that an adapter is not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return module


def random_adapter(dim: int = DIM, hidden: int = 3, seed: int = 0, **options: object) -> LinearAdapter:
    """A linear adapter with random weights."""
    adapter = LinearAdapter(dim, hidden, **options)  # type: ignore[arg-type]
    randomize(adapter, seed)
    return adapter
