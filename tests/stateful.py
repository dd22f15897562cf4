"""An adapter and a strategy that keep state in every way that Python and torch offer; all of it reaches the output."""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.adapters import AbstractAdapterStrategy
from harness.adapters.linear import AdapterModuleUtil


class Average:
    """A plain object: the mean of what it was told."""

    def __init__(self) -> None:
        self.total, self.num_told = 0.0, 0

    def tell(self, value: float) -> float:
        self.total += value
        self.num_told += 1
        return self.total / self.num_told


class Remembering(nn.Module, AdapterModuleUtil):
    """A bottleneck behind batch norm, moved by what it remembers of the batches that it was trained on.

    With `outside` False it uses only what torch's `state_dict` or a buffer holds, which an adapter file keeps.
    """

    passing: Tensor
    made_later: Tensor | None
    newest: Tensor

    def __init__(self, in_features: int, dim: int, outside: bool = True, adapter_strategy: Any = None) -> None:
        super().__init__()
        self.outside = outside
        self.norm = nn.BatchNorm1d(in_features)
        self.down, self.up = nn.Linear(in_features, dim), nn.Linear(dim, in_features)
        self.slow = nn.Parameter(self.up.weight.detach().clone(), requires_grad=False)  # an average of `up`
        self.register_buffer("passing", torch.zeros(in_features), persistent=False)
        self.register_buffer("made_later", None)
        self.last = deque([0.0], maxlen=3)
        self.drawn: dict[Any, int] = Counter()
        self.average = Average()
        self.generator_of_mine, self.numpys = torch.Generator().manual_seed(1), np.random.default_rng(1)
        self.scale, self.steps = 1.0, 0
        self.setup_adapter_strategy(adapter_strategy)

    def get_extra_state(self) -> dict[str, Any]:
        return {"scale": self.scale, "steps": (self.steps,)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.scale, self.steps = state["scale"], state["steps"][0]

    @torch.no_grad()
    def remember(self, x: Tensor) -> None:
        seen = x.reshape(-1, x.shape[-1]).mean(0)
        self.slow.data.lerp_(self.up.weight, 0.1)
        self.passing.lerp_(seen, 0.1)
        self.made_later = seen if self.made_later is None else 0.5 * (self.made_later + seen)
        if not hasattr(self, "newest"):
            self.newest = seen.clone()  # a plain attribute, not there from the start
        self.newest += torch.rand(seen.shape, generator=self.generator_of_mine)
        self.last.append(float(seen.sum()))
        self.drawn[int(self.numpys.integers(3))] += 1
        self.scale = 1.0 + 0.01 * self.average.tell(float(seen.mean()))
        self.steps += 1

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.remember(x)
        normed = self.norm(x.reshape(-1, x.shape[-1])).reshape(x.shape)
        remembered = sum(self.last) + self.drawn[0] + self.average.total if self.outside else 0.0
        out: Tensor = torch.relu(self.down(normed)) @ (self.up.weight + self.slow).T
        shift = self.passing + (0.0 if self.made_later is None else self.made_later)
        if self.outside and hasattr(self, "newest"):
            shift = shift + self.newest
        return (out + 0.01 * shift + 0.001 * (remembered + self.steps)) * self.scale


class Wandering(AbstractAdapterStrategy):
    """Adds a share of the output that wanders with draws of Python's and numpy's global generators."""

    def __init__(self) -> None:
        super().__init__()
        self.share, self.walk = 1.0, np.zeros(2)

    def forward(self, input: Tensor, adapter: nn.Module, *, module: Any) -> Tensor:
        if module.training:
            self.share += 0.1 * random.random()
            self.walk += np.random.random(2)
        output: Tensor = adapter(input)
        return input + (self.share + 0.01 * float(self.walk.sum())) * output


class Hoarding(Remembering):
    """Keeps what no checkpoint can hold: an object without attributes that changes."""

    def remember(self, x: Tensor) -> None:
        self.hoard = bytearray(str(x.shape), "ascii")
