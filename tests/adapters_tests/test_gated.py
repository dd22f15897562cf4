"""Gated: what it computes, where its identity comes from, and the places that it fills in for what is gated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.adapters import (
    ADAPTERS,
    AdapterModuleUtil,
    BesidePoint,
    Gated,
    InsertionPoint,
    LinearAdapter,
    attach_beside,
)
from harness.adapters.packed import packed_adapter

from .registered import settings_of
from .tiny_models import DIM, LINEAR, randomize

TARGET = "harness.adapters.Gated"


def gated(adapter: Any = LINEAR, **options: Any) -> Any:
    point = InsertionPoint(DIM)
    point.add_adapter("one", {"_target_": TARGET, "adapter": adapter, **options})
    return point.get_adapter_module("one")


@pytest.mark.parametrize(
    ("options", "size", "gate"),
    [
        ({"start": 0.5}, 1, 0.5),
        ({"gate": "vector", "start": 0.5}, DIM, 0.5),
        ({"gate": "fixed", "start": 4}, 0, 4.0),
    ],
)
def test_it_multiplies_the_output(options: dict[str, Any], size: int, gate: float, x: Tensor) -> None:
    adapter = gated(**options)
    inner: LinearAdapter = adapter.adapter
    assert not inner(x).any()  # it makes the identity itself
    assert sum(w.numel() for w in adapter.parameters()) == size + sum(w.numel() for w in inner.parameters())
    randomize(inner)
    assert torch.equal(adapter(x), inner(x) * gate)
    if size:
        with torch.no_grad():
            adapter.gate.copy_(torch.arange(1.0, size + 1))
        assert torch.equal(adapter(x), inner(x) * torch.arange(1.0, size + 1))


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("gate", ["scalar", "vector"])
def test_a_gate_of_zero_learns_around_every_adapter(name: str, gate: str, x: Tensor) -> None:
    """ReZero: the output is 0, the gate has a gradient from the first step on, and all else once it has moved."""
    start = {"start": 1.0} if name == "gated" else {}
    adapter = gated({**settings_of(ADAPTERS[name]), **start}, gate=gate)
    output = adapter(x)
    assert not output.any()
    torch.autograd.backward(output.sum())
    assert adapter.gate.grad is not None and adapter.gate.grad.all()
    with torch.no_grad():
        adapter.gate.fill_(0.1)
    adapter.zero_grad()
    torch.autograd.backward(adapter(x).square().sum())
    assert all(weight.grad is not None and weight.grad.any() for weight in adapter.parameters())


class NormAndLinear(nn.Module, AdapterModuleUtil):
    """An adapter of a user's own whose output is not 0, though its norm has a bias of zeros."""

    def __init__(self, in_features: int, up_is_zero: bool = False) -> None:
        super().__init__()
        self.norm, self.up = nn.LayerNorm(in_features), nn.Linear(in_features, in_features, bias=False)
        if up_is_zero:
            nn.init.zeros_(self.up.weight)
        self.setup_adapter_strategy()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.up(self.norm(x))
        return out


def test_what_gives_something_stays_as_it_was_made(x: Tensor) -> None:
    inner = NormAndLinear(DIM)
    before, state = inner(x), torch.random.get_rng_state()
    Gated(DIM, inner)
    assert torch.equal(inner(x), before) and not inner.norm.bias.any()
    assert torch.equal(torch.random.get_rng_state(), state)
    held = NormAndLinear(DIM, up_is_zero=True)
    Gated(DIM, held)
    assert held.up.weight.any() and not held.norm.bias.any()


def test_a_gate_around_a_gate_draws_that_gate_alone() -> None:
    outer = Gated(DIM, Gated(DIM, LinearAdapter(DIM, 3)))
    inner: Any = outer.adapter
    assert not outer.gate.any() and inner.gate.any() and not inner.adapter.module[0].bias.any()


@pytest.mark.parametrize("name", ADAPTERS)
def test_first_weights_are_those_of_before(name: str) -> None:
    """Of every registered adapter: all matrices that are 0 are drawn, or where there is none all vectors."""
    settings = {**settings_of(ADAPTERS[name]), **({"start": 1.0} if name == "gated" else {})}
    torch.manual_seed(0)
    found = gated(settings).adapter.state_dict()
    point = InsertionPoint(DIM)
    torch.manual_seed(0)
    point.add_adapter("one", settings)
    inner = point.adapter_layer["one"]
    zeros = [weight for weight in inner.parameters() if not weight.any()]
    for weight in [weight for weight in zeros if weight.ndim > 1] or zeros:
        if weight.ndim > 1:
            nn.init.kaiming_uniform_(weight, a=5**0.5)
        else:
            nn.init.uniform_(weight, -(weight.numel() ** -0.5), weight.numel() ** -0.5)
    assert all(torch.equal(found[key], value) for key, value in inner.state_dict().items())


def test_a_scaled_parallel_adapter(x: Tensor) -> None:
    """Beside a block that is no linear module, and beside one that gives another width: widths are filled in."""
    low_rank = {"_target_": "harness.adapters.LoRA", "r": 2, "alpha": 2}
    blocks: list[tuple[nn.Module, int, Any]] = [
        (nn.Sequential(nn.Linear(DIM, 9), nn.GELU(), nn.Linear(9, DIM)), DIM, LINEAR),
        (nn.Linear(DIM, 9), 9, low_rank),
    ]
    for block, gives, inner in blocks:
        expected, point = block(x), BesidePoint(DIM, gives)
        attach_beside(block, point)
        point.add_adapter("one", {"_target_": TARGET, "adapter": inner, "gate": "fixed", "start": 4})
        adapter: Any = point.get_adapter_module("one")
        randomize(adapter)
        torch.testing.assert_close(block(x), expected + 4 * adapter.adapter(x))
        assert point.adapter_cfg["one"]["adapter"]["in_features"] == DIM
    assert "in_features" not in LINEAR and "in_features" not in low_rank  # the caller's configs are left alone
    with pytest.raises(ValueError, match="LinearAdapter gives the width that it reads, but here it would read 6"):
        BesidePoint(DIM, 9).add_adapter("one", {"_target_": TARGET, "adapter": LINEAR})


def test_why_it_is_not_packed() -> None:
    """As what is gated."""
    attention = {"_target_": "harness.adapters.TinyAttention", "dim": 2}
    found = []
    for adapter in (gated(), gated({**LINEAR, "dropout": 0.1}), gated(attention)):
        form = packed_adapter(adapter)
        assert form is not None
        found.append(form.why_not(adapter))
    assert found == [
        None,
        "adapter.dropout draws from torch's global generator",
        "adapter.adapter harness.adapters.across_steps.TinyAttention has no packed form",
    ]
    assert not gated().reads_padding(training=True) and not gated(attention).reads_padding(training=True)
    inherits = type("Subclass", (LinearAdapter,), {})(DIM, 2)
    assert Gated(DIM, inherits).reads_padding(training=True)  # nothing is declared


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate": "tanh"}, "gate has to be one of scalar, vector, fixed, but got 'tanh'"),
        ({"start": float("inf")}, "start has to be a finite number, but got inf"),
        ({"gate": "fixed"}, "start: 0: a fixed gate of 0 lets nothing through"),
        ({"adapter": {"dim": 3}}, "adapter has to be the config of an adapter .* but got {'dim': 3}"),
        ({"adapter": {**LINEAR, "in_features": 7}}, "adapter `one`: in_features is 7, but the host is 6 wide"),
    ],
)
def test_bad_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gated(**options)
