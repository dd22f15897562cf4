"""The pure functions, for one trial and for a pack of them (that both are equal: test_strategies.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.adapters import functional, merging

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
    penalty = functional.l2_penalty(tensors["x"] - result, l2, x=tensors["x"], **options)
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


@pytest.mark.parametrize("form", functional.L2_FORMS)
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_poison_stays_in_its_slot(poison: float, form: str) -> None:
    clean, poisoned = make_pack(), make_pack()
    for tensor in poisoned.values():
        tensor[2] = poison
    keep = 1.0 - torch.tensor(P, dtype=torch.float64)
    lambdas = torch.tensor(LAMBDA, dtype=torch.float64)
    found = []
    for tensors in (clean, poisoned):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
        noise = functional.draw_packed_noise((K, B, T, D), keep.tolist(), generators(), dtype=torch.float64)
        result, loss = apply(leaves, noise, keep, lambdas, packed=True, form=form)
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


FORMS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {  # of a frame: d, |x| -> amount
    "squared": lambda d, size: (d**2).sum(-1),
    "norm": lambda d, size: np.sqrt((d**2).sum(-1)),
    "relative": lambda d, size: (d**2).sum(-1) / size**2,
    "relative_norm": lambda d, size: np.sqrt((d**2).sum(-1)) / size,
}
SLOPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {  # their gradients by d, worked out by hand
    "squared": lambda d, size: 2 * d,
    "norm": lambda d, size: d / np.linalg.norm(d, axis=-1, keepdims=True),
    "relative": lambda d, size: 2 * d / size[..., None] ** 2,
    "relative_norm": lambda d, size: d / np.linalg.norm(d, axis=-1, keepdims=True) / size[..., None],
}


@pytest.mark.parametrize("form", functional.L2_FORMS)
@pytest.mark.parametrize("reduction", ["sum", "valid_frame_mean"])
def test_forms_of_the_penalty_in_numpy(form: str, reduction: str) -> None:
    """Value and gradient, beside frames of padding that are NaN where they are not read."""
    d, x = (torch.randn(B, T, D, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in (1, 2))
    valid = torch.arange(T) < torch.tensor([[4], [1], [2]])
    if reduction == "valid_frame_mean":
        d, x = (torch.where(valid[..., None], tensor, float("nan")) for tensor in (d, x))
    leaf, source = d.clone().requires_grad_(), x.clone().requires_grad_()
    penalty = functional.l2_penalty(leaf, 0.3, reduction=reduction, form=form, x=source, valid_frames=valid)
    torch.autograd.backward(penalty)
    share = np.where(valid, 1 / 7, 0) if reduction == "valid_frame_mean" else np.full((B, T), 1 / B)
    sizes = np.sqrt((x.numpy() ** 2).sum(-1) + 1e-6)
    expected = 0.3 * np.nansum(share * FORMS[form](d.numpy(), sizes))
    assert penalty.item() == pytest.approx(expected, rel=1e-12)
    slopes = 0.3 * np.nan_to_num(share[..., None] * SLOPES[form](d.numpy(), sizes))
    assert leaf.grad is not None and source.grad is None  # the input's size is a constant
    np.testing.assert_allclose(leaf.grad.numpy(), slopes, rtol=1e-12, atol=0)


@pytest.mark.parametrize("form", functional.L2_FORMS)
def test_a_penalty_on_nothing_has_no_gradient(form: str) -> None:
    """An adapter that starts as the identity, in front of an input of zeros."""
    nothing = torch.zeros(2, 3, D, requires_grad=True)
    penalty = functional.l2_penalty(nothing, 1.0, form=form, x=torch.zeros(2, 3, D))
    torch.autograd.backward(penalty)
    assert penalty.item() == 0.0 and nothing.grad is not None and not nothing.grad.any()


@pytest.mark.parametrize("reduction", functional.L2_REDUCTIONS)
@pytest.mark.parametrize("mask", [None, torch.zeros(2, 0, dtype=torch.bool)])
def test_of_no_frame_a_mean_is_zero(mask: Tensor | None, reduction: str) -> None:
    """With a mask and without."""
    assert functional.l2_penalty(torch.zeros(2, 0, D), 0.1, reduction=reduction, valid_frames=mask) == 0.0
    assert torch.equal(merging.mean_over_frames(torch.zeros(2, 0, 3), mask), torch.zeros(3))


def test_row_noise() -> None:
    noise = functional.draw_noise((4000, 2, 2), 0.25, drop="row", generator=torch.Generator().manual_seed(0))
    assert noise.shape == (4000, 1, 1)
    assert abs(noise.mean().item() - 0.25) < 0.03


def test_units_of_dropping_share_a_pack() -> None:
    """Batches, rows and frames, in a pack that is padded wider and longer: each trial draws what it draws alone."""
    lengths, num_rows, units = [[3, 2], [4], [2, 5, 1]], [2, 1, 3], ["frame", "row", "frame"]
    valid = [torch.arange(8) < torch.tensor(own)[:, None] for own in lengths]
    drawn = functional.draw_packed_noise(
        (3, 4, 8, D),
        [0.5] * 3,
        generators()[:3],
        drop=units,
        num_rows=num_rows,
        valid_frames=[valid[0], None, valid[2]],
    )
    assert drawn.shape == (3, 4, 8, 1)
    for k, (own, unit) in enumerate(zip(lengths, units, strict=True)):
        frames = torch.arange(max(own)) < torch.tensor(own)[:, None]
        generator = generators()[k]
        alone = functional.draw_noise(
            (num_rows[k], max(own), D), 0.5, drop=unit, valid_frames=frames, generator=generator
        )
        kept = drawn[k, : num_rows[k], : max(own)]
        assert torch.equal(kept, alone.expand_as(kept))
        assert drawn[k, num_rows[k] :].eq(1).all()


def test_zero_gradient_touch() -> None:
    x, weight = torch.randn(2, 3), torch.full((3,), float("inf"), requires_grad=True)
    out = functional.touch_with_zero_gradient(x, [weight])
    torch.autograd.backward(out.sum())
    assert torch.equal(out, x)
    assert weight.grad is not None and weight.grad.eq(0).all()
