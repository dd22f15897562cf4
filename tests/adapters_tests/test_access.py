"""AccessMixin: registries of tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from harness.adapters import AccessMixin, collect_adapter_losses

from .tiny_models import TinyModel, random_adapter


class Leaf(nn.Module, AccessMixin):
    """A module with a registry."""


def test_register_read_and_reset() -> None:
    tree: Any = nn.ModuleDict({"a": Leaf(), "b": nn.ModuleDict({"c": Leaf()}), "d": Leaf()})
    tree["a"].register_accessible_tensor("x", torch.ones(1))
    tree["a"].register_accessible_tensor("x", torch.ones(2))
    tree["b"]["c"].register_accessible_tensor("y", torch.ones(3))
    registry = AccessMixin.get_module_registry(tree)
    assert {k: {n: len(v) for n, v in r.items()} for k, r in registry.items()} == {
        "a": {"x": 2},
        "b.c": {"y": 1},
    }
    with pytest.raises(KeyError, match="Registry key `z` provided"):
        AccessMixin.reset_registry(tree, "z")
    tree["a"].reset_registry("x")
    assert AccessMixin.get_module_registry(tree).keys() == {"b.c"}
    tree["b"]["c"].reset_registry()
    assert AccessMixin.get_module_registry(tree) == {}


def test_settings_are_by_id() -> None:
    leaf: Any = Leaf()
    other: Any = Leaf()
    other.model_guid = "other"
    AccessMixin.update_access_cfg({"detach": True}, guid="other")
    tensor = torch.ones(1, requires_grad=True) * 2
    for module in (leaf, other):
        module.register_accessible_tensor("x", tensor)
    assert leaf._registry["x"][0].requires_grad and not other._registry["x"][0].requires_grad
    assert not AccessMixin.is_access_enabled()
    AccessMixin.set_access_enabled(True)
    assert AccessMixin.is_access_enabled() and not AccessMixin.is_access_enabled("other")
    leaf.reset_registry()
    assert not AccessMixin.is_access_enabled()


def test_collecting_empties_all_registries_and_disables_access(model: TinyModel) -> None:
    leaf: Any = Leaf()
    leaf.model_guid = "mine"
    model.add_module("leaf", leaf)
    leaf.register_accessible_tensor("hidden", torch.ones(1))
    for guid in ("mine", None):
        AccessMixin.set_access_enabled(True, guid)
    assert collect_adapter_losses(model) is None
    assert AccessMixin.get_module_registry(model) == {}
    assert not AccessMixin.is_access_enabled("mine") and not AccessMixin.is_access_enabled()


def test_an_adapter_shared_by_two_hosts_counts_once(model: TinyModel) -> None:
    shared = random_adapter()
    model.add_adapter("encoder:an4", {"_target_": "harness.adapters.LinearAdapter", "dim": 3})
    for block in model.encoder:
        block.point.adapter_layer["an4"] = shared
    shared.register_accessible_tensor("adapter_loss", torch.tensor(2.0))
    total = collect_adapter_losses(model)
    assert total is not None and total.item() == 2.0


def test_a_plain_module_can_be_reset_as_nemo_does_it() -> None:
    """`AccessMixin.reset_registry(model)` on a module that is no AccessMixin, with and without a key, and below."""
    leaf = Leaf()
    model = nn.Sequential(nn.Linear(1, 1), nn.ModuleDict({"leaf": leaf}))
    for key in (None, "x"):
        leaf.register_accessible_tensor("x", torch.ones(1))
        leaf.register_accessible_tensor("y", torch.ones(1))
        AccessMixin.set_access_enabled(access_enabled=True)
        AccessMixin.reset_registry(model, key)  # type: ignore[arg-type]
        assert not AccessMixin.is_access_enabled()
        left = AccessMixin.get_module_registry(model)
        assert {name: list(found) for name, found in left.items()} == ({} if key is None else {"1.leaf": ["y"]})
    AccessMixin.reset_registry(nn.Linear(1, 1))  # type: ignore[arg-type]
