"""InsertionPoint and the hook that puts it behind any module."""

from __future__ import annotations

import copy
import sys
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from harness.adapters import BesidePoint, InsertionPoint, attach_beside, attach_by_hook

from .tiny_models import DIM, LINEAR, randomize


class Named(NamedTuple):
    hidden: Tensor
    weights: int


class Returns(nn.Module):
    """Returns its input in some container."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(x)


def filled_point() -> InsertionPoint:
    point = InsertionPoint(DIM)
    point.add_adapter("an4", LINEAR)
    randomize(point)
    return point


def test_identity_unless_enabled(x: Tensor) -> None:
    assert InsertionPoint(DIM)(x) is x
    point = filled_point()
    assert not torch.equal(point(x), x)
    point.set_enabled_adapters(enabled=False)
    assert point(x) is x


def test_width_is_filled_in_and_checked(x: Tensor) -> None:
    point = InsertionPoint(DIM)
    point.add_adapter("an4", {**LINEAR, "in_features": None})
    assert point.adapter_cfg["an4"]["in_features"] == DIM
    with pytest.raises(ValueError, match="adapter `other`: in_features is 7, but the host is 6 wide"):
        point.add_adapter("other", {**LINEAR, "in_features": 7})
    with pytest.raises(ValueError, match=r"the last axis has to be 6, but got \[2, 4, 5\]"):
        point(x[..., :5])
    with pytest.raises(ValueError, match="dim has to be a whole number"):
        InsertionPoint(0)
    assert (point.valid_frames, point.depth_fraction, point.training_progress) == (None, 1.0, None)


@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: (x, 1), lambda x: Named(x, 1)], ids=["tensor", "tuple", "named"]
)
def test_hook(wrap: Any, x: Tensor) -> None:
    module, point = Returns(wrap), filled_point()
    handle = attach_by_hook(module, point)
    output = module(x)
    assert type(output) is type(wrap(x))
    assert torch.equal(output if isinstance(output, Tensor) else output[0], point(x))
    handle.remove()
    output = module(x)
    assert (output if isinstance(output, Tensor) else output[0]) is x


def test_beside_another_module_both_hooks_go(x: Tensor) -> None:
    """Adapters beside `last` read what `first` reads; once the handle is removed, nothing keeps that any more."""
    first, last, point = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM), BesidePoint(DIM, DIM)
    point.add_adapter("an4", LINEAR)
    randomize(point)
    plain = last(first(x))
    with attach_beside(last, point, reads=first):
        adapter = point.get_adapter_module("an4")
        assert adapter is not None
        torch.testing.assert_close(last(first(x)), plain + adapter(x))
    before = sys.getrefcount(x)
    assert torch.equal(last(first(x)), plain) and sys.getrefcount(x) == before
    assert not first._forward_pre_hooks and not last._forward_hooks


def test_hook_refuses_other_outputs_but_leaves_them_alone_when_disabled(x: Tensor) -> None:
    module, point = Returns(lambda x: {"hidden": x}), filled_point()
    attach_by_hook(module, point)
    with pytest.raises(TypeError, match=r"the output of Returns has to be a tensor or a tuple .* it is dict"):
        module(x)
    point.set_enabled_adapters(enabled=False)
    assert module(x)["hidden"] is x


def test_a_copied_model_hooks_the_copied_point(x: Tensor) -> None:
    model = nn.ModuleDict({"base": nn.Linear(DIM, DIM), "point": filled_point()})
    attach_by_hook(model["base"], model["point"])  # type: ignore[arg-type]
    twin = copy.deepcopy(model)
    before = model["base"](x)
    assert torch.equal(twin["base"](x), before)
    randomize(twin["point"], seed=9)
    assert torch.equal(model["base"](x), before)
    assert not torch.equal(twin["base"](x), before)
