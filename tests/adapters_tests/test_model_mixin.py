"""AdapterModelMixin: adapters of a whole model, addressed as `module:name`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.adapters import AdapterModelMixin

from .tiny_models import LINEAR, TinyModel, randomize

ENCODER = ["encoder.0.point", "encoder.1.point"]
DECODER = ["decoder.0.point"]


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("an4", ENCODER + DECODER),
        ("encoder:an4", ENCODER),
        ("decoder:an4", DECODER),
        ("encoder+decoder:an4", ENCODER + DECODER),
        ("encoder.1:an4", ["encoder.1.point"]),
    ],
)
def test_addresses(name: str, paths: list[str], model: TinyModel) -> None:
    model.add_adapter(name, LINEAR)
    assert list(model.hosts_of_adapter("an4")) == paths
    assert model.is_adapter_available() and model.get_enabled_adapters() == ["an4"]
    assert model.resolve_adapter_module_name_("an4") == (name.rpartition(":")[0], "an4")


def test_default_module_name() -> None:
    class Defaulting(TinyModel):
        @property
        def default_adapter_module_name(self) -> str:
            return "decoder"

    model = Defaulting()
    model.add_adapter("an4", LINEAR)
    assert list(model.hosts_of_adapter("an4")) == DECODER
    assert model.adapter_module_names == ["", "encoder", "decoder"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "head:an4",
            r"`head` in `head` is no adapter module of TinyModel. Module names = \['', 'encoder'",
        ),
        ("encoder+x:an4", r"`x` in `encoder\+x` is no adapter module"),
        ("encoder.7:an4", r"`encoder\.7` in `encoder\.7` is no adapter module"),
        ("encoder.0.linear:an4", r"touches no host: TinyModel has none in `encoder\.0\.linear`"),
        ("global_cfg", "Adapters cannot have the reserved name"),
    ],
)
def test_bad_addresses(name: str, message: str, model: TinyModel) -> None:
    with pytest.raises(ValueError, match=message):
        model.add_adapter(name, LINEAR)
    assert not model.is_adapter_available()


def test_no_host_at_all_is_an_error() -> None:
    class Empty(nn.Module, AdapterModelMixin):
        pass

    with pytest.raises(ValueError, match="adapter `an4` touches no host: Empty has none in `the model`"):
        Empty().add_adapter("an4", LINEAR)


def test_names_are_unique_in_the_model(model: TinyModel) -> None:
    model.add_adapter("encoder:an4", LINEAR)
    with pytest.raises(ValueError, match=r"Adapter with name `decoder:an4` already exists !"):
        model.add_adapter("decoder:an4", {**LINEAR, "dim": 9})
    assert model.adapter_cfg["an4"]["dim"] == 3


def test_all_hosts_or_none(model: TinyModel) -> None:
    model.decoder[0].point.add_adapter("an4", LINEAR)  # the last host will refuse
    with pytest.raises(ValueError, match="already exists"):
        model.add_adapter("an4", LINEAR)
    assert list(model.hosts_of_adapter("an4")) == DECODER
    assert not model.is_adapter_available()


def test_layers(model: TinyModel) -> None:
    model.add_adapter("an4", LINEAR, layers=[2, 0])
    assert list(model.hosts_of_adapter("an4")) == [ENCODER[0], DECODER[0]]
    for layers in ([3], [-1], [0, 0]):
        with pytest.raises(ValueError, match="layers have to be distinct, 0 to 2"):
            model.add_adapter("other", LINEAR, layers=layers)
    with pytest.raises(ValueError, match="touches no host"):
        model.add_adapter("other", LINEAR, layers=[])


def test_enable_disable_gives_the_base_model_back(model: TinyModel, x: Tensor) -> None:
    model.eval()
    base = model(x)
    model.add_adapter("encoder:one", LINEAR)
    model.add_adapter("two", LINEAR)
    for host in model.adapter_hosts().values():
        randomize(host.adapter_layer)
    both = model(x)
    model.set_enabled_adapters("two", False)
    one = model(x)
    model.set_enabled_adapters(enabled=False)
    assert model.get_enabled_adapters() == [] and model.is_adapter_available()
    assert torch.equal(model(x), base)
    assert not torch.equal(one, base) and not torch.equal(one, both)
    model.update_adapter_cfg({"one": {"enabled": True}, "global_cfg": {}})
    assert torch.equal(model(x), one)
    with pytest.raises(
        ValueError, match=r"No adapter with name `three` in the model. Adapter names = \['one', 'two'\]"
    ):
        model.set_enabled_adapters("three")


def test_one_layer_can_be_switched(model: TinyModel) -> None:
    model.add_adapter("encoder:an4", LINEAR)
    model.encoder[0].point.set_enabled_adapters("an4", False)
    assert model.encoder[1].point.get_enabled_adapters() == ["an4"]
    assert model.get_enabled_adapters() == ["an4"]


def test_losses_of_disabled_adapters_are_cleared_but_not_added(model: TinyModel, x: Tensor) -> None:
    strategy = {"_target_": "harness.adapters.ResidualAddAdapterStrategy", "l2_lambda": 0.5}
    for name in ("one", "two"):
        model.add_adapter(name, {**LINEAR, "adapter_strategy": strategy})
    for host in model.adapter_hosts().values():
        randomize(host.adapter_layer)
    model(x)
    adapters: list[Any] = [a for host in model.adapter_hosts().values() for a in host.adapter_layer.values()]
    parts = [adapter._registry["adapter_loss"][0] for adapter in adapters]
    assert len(parts) == 6
    model.set_enabled_adapters("two", False)
    total = model.collect_adapter_losses()
    assert total is not None
    torch.testing.assert_close(total, sum(parts[::2]))
    assert model.collect_adapter_losses() is None


def test_a_module_in_front_of_a_name_is_heeded(model: TinyModel, tmp_path: Path) -> None:
    """By what switches, removes and saves, as by what adds."""
    model.add_adapter("encoder+decoder:an4", LINEAR)
    hosts = model.adapter_hosts_by_path_()
    model.set_enabled_adapters("encoder:an4", False)
    assert [path for path, host in hosts.items() if host.get_enabled_adapters()] == DECODER
    assert model.adapter_cfg["an4"]["enabled"] and model.get_enabled_adapters() == ["an4"]
    model.set_enabled_adapters("decoder:an4", False)
    assert not model.adapter_cfg["an4"]["enabled"]
    model.set_enabled_adapters("an4")
    assert [path for path, host in hosts.items() if host.get_enabled_adapters()] == ENCODER + DECODER
    assert list(model.hosts_of_adapter("decoder:an4")) == DECODER
    with pytest.raises(
        ValueError, match=r"`encoder:an4`: a file has an adapter whole, and `an4` is in decoder\.0\.point too"
    ):
        model.save_adapters(tmp_path / "x", "encoder:an4")
    model.remove_adapter("encoder:an4")
    assert list(model.hosts_of_adapter("an4")) == DECODER
    assert model.resolve_adapter_module_name_("an4") == ("decoder", "an4")
    model.save_adapters(tmp_path / "x", "decoder:an4")
    changes: list[Any] = [model.set_enabled_adapters, model.remove_adapter, lambda name: model.save_adapters("x", name)]
    for change in changes:
        with pytest.raises(ValueError, match=r"No adapter with name `encoder:an4` .* `an4` is in: decoder\.0\.point"):
            change("encoder:an4")
        with pytest.raises(ValueError, match="`nonsense` in `nonsense` is no adapter module"):
            change("nonsense:an4")
    model.remove_adapter("decoder:an4")
    assert not model.is_adapter_available()
