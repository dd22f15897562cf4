"""AdapterModuleMixin: adapters of one host."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from harness.adapters import AdapterModuleMixin, InsertionPoint, LinearAdapter, LinearAdapterConfig
from harness.instantiate import InstantiationError

from .tiny_models import DIM, LINEAR, random_adapter, randomize


class PlainHost(nn.Module, AdapterModuleMixin):
    """A host that is not an insertion point."""


FULL = {**LINEAR, "in_features": DIM}


@pytest.mark.parametrize(
    "cfg",
    [
        FULL,
        LinearAdapterConfig(DIM, 3),
        OmegaConf.create(FULL),
        OmegaConf.structured(LinearAdapterConfig(DIM, 3)),
    ],
    ids=["dict", "dataclass", "omegaconf", "structured"],
)
def test_every_kind_of_config(cfg: Any) -> None:
    host = PlainHost()
    assert not host.is_adapter_available() and host.get_enabled_adapters() == []
    host.add_adapter("encoder:an4", cfg)
    assert isinstance(host.get_adapter_module("an4"), LinearAdapter)
    assert host.get_enabled_adapters() == ["an4"] and host.adapter_name == "an4"
    assert host.get_adapter_cfg("an4") == host.adapter_cfg["an4"]
    assert host.adapter_cfg["an4"]["dim"] == 3 and host.adapter_cfg["an4"]["enabled"] is True


def test_enable_disable_and_order() -> None:
    host = PlainHost()
    with pytest.raises(ValueError, match="No adapter is available to enable/disable"):
        host.set_enabled_adapters(enabled=False)
    for name in ("b", "a", "c"):
        host.add_adapter(name, {**FULL, "enabled": name != "c"})
    assert host.get_enabled_adapters() == ["b", "a"]
    host.set_enabled_adapters("b", False)
    host.set_enabled_adapters("c", True)
    assert host.get_enabled_adapters() == ["a", "c"]
    host.set_enabled_adapters(enabled=False)
    assert host.get_enabled_adapters() == [] and host.is_adapter_available()
    with pytest.raises(ValueError, match=r"No adapter with name `d` .* Adapter names = \['b', 'a', 'c'\]"):
        host.set_enabled_adapters("d")
    with pytest.raises(ValueError, match="Cannot set the state of the global config"):
        host.set_enabled_adapters("global_cfg")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("global_cfg", "Adapters cannot have the reserved name : `global_cfg`"),
        ("a.b", "is empty, has a dot"),
        ("", "is empty"),
        ("keys", "is a method"),
    ],
)
def test_bad_names(name: str, message: str) -> None:
    host = PlainHost()
    with pytest.raises(ValueError, match=message):
        host.add_adapter(name, FULL)
    assert not host.is_adapter_available() and not hasattr(host, "adapter_cfg")


def test_bad_configs_change_nothing() -> None:
    host = PlainHost()
    with pytest.raises(InstantiationError, match="does not accept `size`"):
        host.add_adapter("an4", {**FULL, "size": 3})
    with pytest.raises(InstantiationError, match=r"`torch\.Generator` is not an adapter \(a class below torch"):
        host.add_adapter("an4", {"_target_": "torch.Generator"})
    for strategy in ("torch.Generator", "torch.nn.Identity"):
        with pytest.raises(InstantiationError, match=rf"`{strategy}` is not a strategy \(a class below"):
            host.add_adapter("an4", {**FULL, "adapter_strategy": {"_target_": strategy}})
    with pytest.raises(InstantiationError, match=r"config\.activation: `torch\.Generator` is not a module or a st"):
        host.add_adapter("an4", {**FULL, "activation": {"_target_": "torch.Generator"}})
    with pytest.raises(InstantiationError, match=r"`torch\.Generator` is not a strategy"):
        host.add_adapter("an4", {**FULL, "_recursive_": False, "adapter_strategy": {"_target_": "torch.Generator"}})
    with pytest.raises(InstantiationError, match="the config has no `_target_`: 3"):
        host.add_adapter("an4", 3)
    assert not hasattr(host, "adapter_layer")


def test_accepted_types() -> None:
    host = PlainHost()
    assert host.get_accepted_adapter_types() == set()
    host.add_adapter("an4", FULL)
    host.set_accepted_adapter_types(["torch.nn.Identity"])
    assert host.get_accepted_adapter_types() == {nn.Identity}
    assert host.get_enabled_adapters() == []
    with pytest.raises(ValueError, match="not in the list of accepted adapter types"):
        host.add_adapter("other", FULL)
    host.set_accepted_adapter_types([LinearAdapter, nn.Identity])
    assert host.get_enabled_adapters() == ["an4"]
    with pytest.raises(ValueError, match=r"is not a subclass of torch\.nn\.Module"):
        host.set_accepted_adapter_types([dict])
    with pytest.raises(ValueError, match="no attribute `Nothing`"):
        host.set_accepted_adapter_types(["torch.nn.Nothing"])


def test_chain_and_override_point(x: Tensor) -> None:
    seen = []

    class Recording(PlainHost):
        def forward_single_enabled_adapter_(self, input: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append((kwargs["adapter_name"], input))
            return super().forward_single_enabled_adapter_(input, *args, **kwargs)

    host = Recording()
    for name in ("one", "two"):
        host.add_adapter(name, FULL)
    randomize(host)
    middle = x + host.adapter_layer["one"](x)
    assert torch.equal(host.forward_enabled_adapters(x), middle + host.adapter_layer["two"](middle))
    assert [name for name, _ in seen] == ["one", "two"] and torch.equal(seen[1][1], middle)
    assert host.adapter_calls == {"one": 1, "two": 1}


def test_remove_restores_the_plain_module() -> None:
    host = InsertionPoint(DIM)
    host.add_adapter("an4", LINEAR)
    assert len(host.state_dict()) == 4
    host.remove_adapter("an4")
    assert len(host.state_dict()) == 0 and not host.is_adapter_available()
    with pytest.raises(ValueError, match="No adapter with name `an4`"):
        host.remove_adapter("an4")


def test_unfreeze_only_enabled() -> None:
    host = PlainHost()
    host.add_adapter("on", FULL)
    host.add_adapter("off", {**FULL, "enabled": False})
    host.add_adapter("plain", {"_target_": "torch.nn.Linear", "in_features": DIM, "out_features": DIM})
    host.requires_grad_(False).eval()
    host.unfreeze_enabled_adapters()
    on, off, plain = (host.adapter_layer[name] for name in ("on", "off", "plain"))
    assert all(p.requires_grad for p in on.parameters()) and on.training
    assert all(p.requires_grad for p in plain.parameters())
    assert not any(p.requires_grad for p in off.parameters()) and not off.training


def test_strategy_object_in_a_config_is_kept() -> None:
    strategy = random_adapter().adapter_strategy
    host = PlainHost()
    host.add_adapter("an4", {**FULL, "adapter_strategy": strategy})
    assert host.adapter_layer["an4"].adapter_strategy is strategy
