"""Adapters of a user's own, named in configs as `own_adapter.Wider`."""

from __future__ import annotations

from typing import Any

import torch

from harness.adapters import LinearAdapter


class Wider(LinearAdapter):
    """A subclass: it inherits no packed form."""


class Counting(LinearAdapter):
    """A packed form, but a buffer that a pack does not hold."""

    packed_form = LinearAdapter.packed_form

    def __init__(self, in_features: int, dim: int, adapter_strategy: Any = None) -> None:
        super().__init__(in_features, dim, adapter_strategy=adapter_strategy)
        self.register_buffer("seen", torch.zeros(1))


class HalfFrozen(LinearAdapter):
    """A packed form, but a weight that does not learn."""

    packed_form = LinearAdapter.packed_form

    def adapter_unfreeze(self) -> None:
        super().adapter_unfreeze()
        self.module[1].weight.requires_grad_(False)
