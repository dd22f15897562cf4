"""The pure functions, for one trial and for a pack of them (that both are equal: test_strategies.py)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.adapters import functional

K, B, T, D, H = 5, 3, 4, 6, 2
P = [0.0, 0.3, 0.5, 0.9, 1.0]
LAMBDA = [0.0, 0.1, 0.5, 1e-3, 2.0]
WEIGHTS = ("norm_weight", "norm_bias", "down", "up")


def make_pack(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "x": (K, B, T, D),
        "norm_weight": (K, D),
        "norm_bias": (K, D),
        "down": (K, H, D),
        "up": (K, D, H),
    }
    return {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}


def generators() -> list[torch.Generator | None]:
    return [torch.Generator().manual_seed(100 + k) for k in range(K)]


def apply(tensors: dict[str, Tensor], noise: Tensor, keep: Any, l2: Any, **options: Any) -> tuple[Tensor, Tensor]:
    weights: dict[str, Any] = {name: tensors[name] for name in WEIGHTS}
    out = functional.bottleneck(
        tensors["x"], **weights, activation=F.silu, norm_position=options.pop("norm_position", "pre")
    )
    result = functional.residual_add(tensors["x"], functional.stochastic_depth(out, noise, keep))
    penalty = functional.l2_penalty(tensors["x"] - result, l2, **options)
    weighted = (result * torch.linspace(-1, 1, D, dtype=result.dtype)).flatten(start_dim=-3).sum(-1)
    return result, weighted + penalty


def test_pack_check_fails_when_generators_are_swapped() -> None:
    keeps = [1.0 - p for p in P]
    drawn = functional.draw_packed_noise((K, 64, T, D), keeps, generators(), drop="row")
    swapped = functional.draw_packed_noise((K, 64, T, D), keeps, generators()[::-1], drop="row")
    assert not torch.equal(drawn, swapped)


def test_scalar_hyperparameters_serve_a_pack() -> None:
    difference = torch.randn(K, B, T, D, dtype=torch.float64)
    one = functional.l2_penalty(difference, 0.5, packed=True)
    many = functional.l2_penalty(difference, torch.full((K,), 0.5, dtype=torch.float64), packed=True)
    torch.testing.assert_close(one, many, rtol=1e-12, atol=0)
    noise = torch.ones(K, 1, 1, 1, dtype=torch.float64)
    assert torch.equal(
        functional.stochastic_depth(difference, noise, 0.25),
        functional.stochastic_depth(difference, noise, torch.full((K,), 0.25, dtype=torch.float64)),
    )


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_poison_stays_in_its_slot(poison: float) -> None:
    clean, poisoned = make_pack(), make_pack()
    for tensor in poisoned.values():
        tensor[2] = poison
    keep = 1.0 - torch.tensor(P, dtype=torch.float64)
    lambdas = torch.tensor(LAMBDA, dtype=torch.float64)
    found = []
    for tensors in (clean, poisoned):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
        noise = functional.draw_packed_noise((K, B, T, D), keep.tolist(), generators(), dtype=torch.float64)
        result, loss = apply(leaves, noise, keep, lambdas, packed=True)
        torch.autograd.backward(loss.sum())
        found.append([result.detach(), loss.detach(), *(leaf.grad for leaf in leaves.values())])
    others = [0, 1, 3, 4]
    for before, after in zip(*found, strict=True):
        assert before is not None and after is not None
        assert torch.equal(before[others], after[others])


def test_padding_that_is_nan_has_no_gradient() -> None:
    difference = torch.ones(1, 2, D)
    difference[0, 1] = float("nan")
    difference.requires_grad_()
    valid = torch.tensor([[True, False]])
    loss = functional.l2_penalty(difference, 1.0, reduction="valid_frame_mean", valid_frames=valid)
    torch.autograd.backward(loss)
    assert loss.item() == D
    assert difference.grad is not None and difference.grad[0, 1].eq(0).all()


def test_valid_frame_mean_ignores_padding_and_all_padding_is_zero() -> None:
    difference = torch.randn(2, 3, 8)
    padded = torch.cat([difference, torch.randn(2, 5, 8)], dim=1)
    valid = torch.arange(8).expand(2, 8) < 3
    short = functional.l2_penalty(difference, 1.0, reduction="valid_frame_mean")
    long = functional.l2_penalty(padded, 1.0, reduction="valid_frame_mean", valid_frames=valid)
    torch.testing.assert_close(short, long)
    nothing = functional.l2_penalty(padded, 1.0, reduction="valid_frame_mean", valid_frames=valid & False)
    assert nothing.item() == 0.0


def test_row_noise() -> None:
    noise = functional.draw_noise((4000, 2, 2), 0.25, drop="row", generator=torch.Generator().manual_seed(0))
    assert noise.shape == (4000, 1, 1)
    assert abs(noise.mean().item() - 0.25) < 0.03


def test_zero_gradient_touch() -> None:
    x, weight = torch.randn(2, 3), torch.full((3,), float("inf"), requires_grad=True)
    out = functional.touch_with_zero_gradient(x, [weight])
    torch.autograd.backward(out.sum())
    assert torch.equal(out, x)
    assert weight.grad is not None and weight.grad.eq(0).all()
