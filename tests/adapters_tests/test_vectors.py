"""IA3 and BitFit: each is what its paper trains, in another form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.adapters import IA3, BitFit, InsertionPoint, attach_by_hook

from .tiny_models import DIM


def point_with(target: str, **strategy: Any) -> InsertionPoint:
    point = InsertionPoint(DIM)
    residual = {"_target_": "harness.adapters.ResidualAddAdapterStrategy", **strategy}
    point.add_adapter("one", {"_target_": f"harness.adapters.{target}", "adapter_strategy": residual})
    return point.double()


def test_ia3_rescales_each_feature(x: Tensor) -> None:
    """x * l with l = 1 + scale; the penalty is the squared distance that it moves x."""
    point, factor_D = point_with("IA3", l2_lambda=0.5), torch.tensor([1.0, 0.0, 2.0, -1.0, 0.5, 1.5]).double()
    adapter: Any = point.get_adapter_module("one")
    with torch.no_grad():
        adapter.scale.copy_(factor_D - 1)
    x = x.double()
    torch.testing.assert_close(point(x), x * factor_D)
    moved = ((x * factor_D - x) ** 2).sum((1, 2)).mean()
    torch.testing.assert_close(adapter._registry["adapter_loss"][0], 0.5 * moved)
    assert sum(weight.numel() for weight in adapter.parameters()) == DIM


def test_bitfit_takes_the_steps_of_training_the_bias(x: Tensor) -> None:
    """Behind a linear module and behind a layer norm: the same losses and the same biases, step for step."""

    def model() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(DIM, DIM), nn.LayerNorm(DIM), nn.GELU(), nn.Linear(DIM, 2)).double()

    x = x.double()
    trained, frozen = model(), model()
    frozen.requires_grad_(False)
    points = [point_with("BitFit") for _ in range(2)]
    for number, point in enumerate(points):
        attach_by_hook(frozen[number], point)
    shifts: list[Any] = [weight for point in points for weight in point.parameters()]
    modules: list[Any] = [trained[number] for number in range(2)]
    biases: list[Any] = [module.bias for module in modules]
    first = [bias.detach().clone() for bias in biases]
    optimizers = [torch.optim.SGD(weights, lr=0.1, momentum=0.9) for weights in (biases, shifts)]
    for _ in range(3):
        losses = [trained(x).square().sum(), frozen(x).square().sum()]
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-12, atol=1e-12)
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    for bias, start, shift in zip(biases, first, shifts, strict=True):
        assert float((bias - start).detach().abs().max()) > 0.01
        torch.testing.assert_close(start + shift, bias, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cls", [IA3, BitFit])
def test_bad_width(cls: Any) -> None:
    with pytest.raises(ValueError, match="in_features has to be a whole number of at least 1, but got 0"):
        cls(0)
