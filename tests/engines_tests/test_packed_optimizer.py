"""Clipping and AdamW by row, against torch's own, one optimizer a row."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.adapters.packed import WIDTHS, padded_width
from harness.config.trial import OptimSettings
from harness.engines.packed.optimizer import RowStep, step_rows

SETTINGS = [
    OptimSettings(lr=0.1, weight_decay=0.0, clip_norm=None),
    OptimSettings(lr=0.01, weight_decay=0.3, clip_norm=0.5),
    OptimSettings(lr=0.03, betas=(0.8, 0.95), eps=1e-4, clip_norm=100.0),
]


def values_of(steps: list[RowStep]) -> torch.Tensor:
    """The coefficients of some rows, [K, C]."""
    return torch.tensor([step.coefficients() for step in steps], dtype=torch.float64)


def test_rows_are_torchs_adamw() -> None:
    """Twenty steps in float64 to 1e-13, each row at a step number of its own; a NaN stays in its row."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4, 12, generator=generator, dtype=torch.float64)
    rows = torch.stack([start, torch.zeros_like(start), torch.zeros_like(start)])
    weights = [nn.Parameter(row.clone()) for row in start[:3]]
    optimizers = [
        torch.optim.AdamW([w], lr=s.lr, betas=s.betas, eps=s.eps, weight_decay=s.weight_decay)
        for w, s in zip(weights, SETTINGS, strict=True)
    ]
    settings = [*SETTINGS, SETTINGS[1]]
    for number in range(1, 21):
        gradients = torch.randn(4, 12, generator=generator, dtype=torch.float64)
        gradients[3] = torch.nan
        for weight, optimizer, setting, gradient in zip(weights, optimizers, SETTINGS, gradients, strict=False):
            optimizer.param_groups[0]["lr"] = setting.lr / number
            weight.grad = gradient.clone()
            if setting.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_([weight], setting.clip_norm)
            optimizer.step()
        first, second, third = rows
        step_rows(
            first, second, third, gradients, values_of([RowStep(s, s.lr / number, number) for s in settings]), True
        )
    for row, weight, optimizer in zip(rows.unbind(1), weights, optimizers, strict=False):
        state = optimizer.state[weight]
        for found, expected in zip(row, (weight.detach(), state["exp_avg"], state["exp_avg_sq"]), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-15)
    assert rows[0, 3].isnan().all() and rows[:, :3].isfinite().all()


class _NoMemoryAfter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets so many operations allocate, and refuses the next one, as an allocator does."""

    def __init__(self, num_allowed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_allowed, self.num_refused = num_allowed, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func._schema.is_mutable and not func.is_view:
            self.num_allowed -= 1
            if self.num_allowed < 0:
                self.num_refused += 1
                raise torch.OutOfMemoryError("out of memory")
        return func(*args, **(kwargs or {}))


def test_a_step_without_memory_changes_nothing() -> None:
    """Whichever allocation fails, weights and moments are as they were: the step can be taken again."""
    rows = torch.randn(3, 3, 12, generator=torch.Generator().manual_seed(0)).abs()
    gradients = torch.randn(3, 12, generator=torch.Generator().manual_seed(1))
    values = values_of([RowStep(settings, settings.lr, 3) for settings in SETTINGS]).float()
    expected = rows.clone()
    step_rows(expected[0], expected[1], expected[2], gradients.clone(), values, True)
    assert (expected != rows).all()
    for num_allowed in range(100):
        found, memory = rows.clone(), _NoMemoryAfter(num_allowed)
        with contextlib.suppress(torch.OutOfMemoryError), memory:
            step_rows(found[0], found[1], found[2], gradients.clone(), values, True)
        if not memory.num_refused:
            break
        assert torch.equal(found, rows)
    assert num_allowed > 3 and torch.equal(found, expected)


@pytest.mark.parametrize(("width", "padded"), [(1, 8), (8, 8), (9, 16), (33, 64), (1024, 1024), (1025, 2048)])
def test_widths_are_padded_to_buckets(width: int, padded: int) -> None:
    assert padded_width(width) == padded
    assert padded >= width and (padded in WIDTHS or padded % WIDTHS[-1] == 0)
