"""LoRA against numpy, and against PEFT on the same weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.adapters import BesidePoint, LoRA, attach_beside

from .tiny_models import randomize

READS, GIVES = 6, 10
TARGET = "harness.adapters.LoRA"


def beside_linear(**options: Any) -> tuple[nn.Linear, LoRA]:
    """A linear module in float64 with our LoRA beside it, whose weights are random."""
    torch.manual_seed(0)
    linear, point = nn.Linear(READS, GIVES).double(), BesidePoint(READS, GIVES)
    point.add_adapter("one", {"_target_": TARGET, **options})
    attach_beside(linear, point)
    adapter = point.get_adapter_module("one")
    assert isinstance(adapter, LoRA)
    randomize(adapter.double())
    return linear, adapter


@pytest.mark.parametrize(("stabilized", "scale"), [(False, 5 / 4), (True, 5 / 2)])
def test_it_adds_a_scaled_low_rank_update(stabilized: bool, scale: float, x: Tensor) -> None:
    linear, adapter = beside_linear(r=4, alpha=5, rank_stabilized=stabilized)
    assert sum(weight.numel() for weight in adapter.parameters()) == 4 * (READS + GIVES)
    a, b, w = (module.weight.detach().numpy() for module in (adapter.lora_A, adapter.lora_B, linear))
    expected = x.double().numpy() @ (w + scale * b @ a).T + linear.bias.detach().numpy()
    np.testing.assert_allclose(linear(x.double()).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_first_weights() -> None:
    torch.manual_seed(0)
    adapter = LoRA(4, 50, out_features=3)
    assert adapter.lora_B.weight.eq(0).all() and adapter.lora_B.weight.shape == (3, 50)
    bound = 1 / math.sqrt(4)
    assert adapter.lora_A.weight.abs().max() <= bound
    assert abs(float(adapter.lora_A.weight.detach().var()) - bound**2 / 3) < 0.02  # of a uniform distribution


def test_dropout_drops_elements_of_the_input(x: Tensor) -> None:
    """In training alone; what is kept is divided by the probability of keeping."""
    adapter = LoRA(READS, READS, alpha=READS, dropout=0.5)
    with torch.no_grad():
        for module in (adapter.lora_A, adapter.lora_B):
            module.weight.copy_(torch.eye(READS))
    torch.manual_seed(0)
    ratio = adapter.train()(x) / x
    assert set(ratio.unique().round().tolist()) == {0.0, 2.0}
    torch.testing.assert_close(adapter.eval()(x), x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 0}, "r has to be a whole number of at least 1, but got 0"),
        ({"out_features": 1.5}, "out_features has to be a whole number"),
        ({"alpha": 0}, "alpha has to be a finite number above 0, but got 0"),
        ({"alpha": float("nan")}, "alpha has to be a finite number above 0, but got nan"),
        ({"dropout": -0.1}, "dropout has to be between 0 and 1, but got -0.1"),
    ],
)
def test_bad_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoRA(**{"in_features": READS, "r": 2, **options})


@pytest.mark.parametrize("stabilized", [False, True])
def test_it_is_pefts_on_the_same_weights(stabilized: bool, x: Tensor) -> None:
    """Output and gradients, in float64; PEFT's names of the two weights are ours."""
    peft: Any = pytest.importorskip("peft", reason="needs the library peft")
    linear, ours = beside_linear(r=4, alpha=5, rank_stabilized=stabilized)
    base = nn.Sequential(nn.Linear(READS, GIVES)).double()
    base[0].load_state_dict(linear.state_dict())
    config = peft.LoraConfig(r=4, lora_alpha=5, target_modules=["0"], use_rslora=stabilized)
    theirs = peft.get_peft_model(base, config).double()
    weights = {name: dict(theirs.named_parameters())[f"base_model.model.0.{name}.default.weight"] for name in PARTS}
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(ours.get_parameter(f"{name}.weight"))
    found, expected = linear(x.double()), theirs(x.double())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    our_gradients = torch.autograd.grad(found.square().sum(), [ours.get_parameter(f"{name}.weight") for name in PARTS])
    their_gradients = torch.autograd.grad(expected.square().sum(), list(weights.values()))
    torch.testing.assert_close(our_gradients, their_gradients, rtol=1e-12, atol=1e-12)


PARTS = ("lora_A", "lora_B")
