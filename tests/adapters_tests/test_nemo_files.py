"""Adapter files in NeMo's layout, among them one that NeMo wrote (tests/golden/README.md)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from harness.adapters import AdapterFileError, LinearAdapter, ResidualAddAdapterStrategy, checkpoint
from harness.adapters.lora import LoRA
from harness.adapters.nemo_files import (
    NEMO_TARGETS,
    load_nemo_adapters,
    read_nemo_adapters,
    translate_targets,
)
from harness.adapters.nemo_writing import convert_adapters
from harness.instantiate import locate, target_of

from .tiny_models import LINEAR, Block, TinyModel, random_adapter, randomize

GOLDEN = Path(__file__).parents[1] / "golden" / "nemo_adapter.pt"


def write(path: Path, **changes: Any) -> Path:
    """A file in NeMo's layout: one adapter in the two hosts of `encoder`."""
    states = [{f"an4.{k}": v for k, v in random_adapter(seed=i).state_dict().items()} for i in range(2)]
    config = {"an4": {"_target_": next(iter(NEMO_TARGETS)), "in_features": 6, "dim": 3, "enabled": True}}
    content = {"encoder:an4": states, "__cfg__": OmegaConf.create(config), **changes}
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    return path


def test_nemos_own_file_computes_the_same(model: TinyModel) -> None:
    outputs = load_file(GOLDEN.with_name("nemo_adapter_outputs.safetensors"))
    assert load_nemo_adapters(model, GOLDEN) == ["an4", "an4_v2"]
    for name in ("an4", "an4_v2"):
        assert list(model.hosts_of_adapter(name)) == ["encoder.0.point", "encoder.1.point"]
        for i, host in enumerate(model.hosts_of_adapter(name).values()):
            adapter = host.get_adapter_module(name)
            assert isinstance(adapter, LinearAdapter)
            assert isinstance(adapter.adapter_strategy, ResidualAddAdapterStrategy)
            assert (adapter.adapter_strategy.stochastic_depth, adapter.adapter_strategy.l2_lambda) == (
                0.5,
                0.25,
            )
            torch.testing.assert_close(adapter(outputs["input"]), outputs[f"{name}.{i}"], rtol=1e-6, atol=1e-6)


def test_converted_file_round_trips(model: TinyModel, tmp_path: Path) -> None:
    model.load_adapters(GOLDEN, "encoder:an4_v2")
    assert model.get_enabled_adapters() == ["an4_v2"]
    model.save_adapters(tmp_path / "converted")
    other = TinyModel()
    assert other.load_adapters(tmp_path / "converted", allow_other_base=True) == ["an4_v2"]
    old, new = model.get_adapter_module("an4_v2"), other.get_adapter_module("an4_v2")
    assert old is not None and new is not None
    assert all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))


def test_exact_names_only() -> None:
    adapters = read_nemo_adapters(GOLDEN)
    expected = set(random_adapter().state_dict())
    assert [set(state) for state in adapters["an4"].states] == [expected, expected]


def test_targets_translate_at_any_depth() -> None:
    for theirs, ours in NEMO_TARGETS.items():
        locate(ours)
        assert translate_targets({"a": [{"_target_": theirs}]}) == {"a": [{"_target_": ours}]}
    assert translate_targets("nemo.Other") == "nemo.Other"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"__cfg__": None}, "not an adapter file of NeMo: it has no `__cfg__`"),
        ({"__cfg__": {}}, "adapter `encoder:an4` has no config"),
        ({"__cfg__": {"an4": "x"}}, "adapter `encoder:an4` has no config"),
        ({"__cfg__": ["an4"]}, "its `__cfg__` is a list, not a mapping of adapters"),
        ({"decoder:an4": []}, "two adapters are named `an4`"),
        ({"encoder:an4": [[]]}, "`encoder:an4`: a state dict is a list, not a mapping of names to tensors"),
        ({"encoder:an4": [{"an4.module.0.weight": 1.0}]}, "module.0.weight is a float, not a tensor"),
        ({"encoder:an4": [{}]}, "has 1 state dicts, but the model has 2 hosts for it"),
        ({"encoder:an4": [{}, {}]}, "in encoder.0.point: Error.* Missing key"),
    ],
)
def test_wrong_content(changes: dict[str, Any], message: str, model: TinyModel, tmp_path: Path) -> None:
    path = write(tmp_path / "an4.pt", **changes)
    with pytest.raises(AdapterFileError, match=message) as caught:
        load_nemo_adapters(model, path)
    assert "\n" not in str(caught.value)
    assert not model.is_adapter_available()
    assert not any(host.is_adapter_available() for host in model.adapter_hosts().values())


def test_elsewhere_and_unknown_names(model: TinyModel, tmp_path: Path) -> None:
    path = write(tmp_path / "an4.pt")
    with pytest.raises(AdapterFileError, match="no adapter named an; there are: an4"):
        load_nemo_adapters(model, path, "an")
    path = write(tmp_path / "other.pt", **{"encoder:an4": None, "preprocessor:an4": read_states(path)})
    with pytest.raises(ValueError, match="`preprocessor` in `preprocessor` is no adapter module"):
        load_nemo_adapters(model, path)
    assert load_nemo_adapters(model, path, module_name="encoder") == ["an4"]


def read_states(path: Path) -> list[dict[str, torch.Tensor]]:
    return [{f"an4.{k}": v for k, v in state.items()} for state in read_nemo_adapters(path)["an4"].states]


class Malicious:
    """What a pickle could do."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned",)


def test_nothing_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "an4.pt", extra=Malicious())
    with pytest.raises(AdapterFileError, match="refused: corrupt, or more than tensors"):
        read_nemo_adapters(path)
    assert not (tmp_path / "pwned").exists()


def test_only_known_classes_are_built(model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.py").write_text(
        "import os\nos.mkdir('pwned')\nfrom harness.adapters import LinearAdapter as Mine\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    strategy = {"_target_": "os.system", "command": "touch pwned"}
    for config, named in (
        ({"_target_": "os.system", "command": "touch pwned"}, r"os\.system"),
        (
            {"_target_": next(iter(NEMO_TARGETS)), "in_features": 6, "dim": 3, "adapter_strategy": strategy},
            r"os\.system",
        ),
        ({"_target_": "theirs.Mine", "in_features": 6, "dim": 3}, r"theirs\.Mine"),
    ):
        path = write(tmp_path / "an4.pt", __cfg__=OmegaConf.create({"an4": {**config, "enabled": True}}))
        with pytest.raises(AdapterFileError, match=f"names the class '{named}', which is not registered"):
            load_nemo_adapters(model, path)
        assert not (tmp_path / "pwned").exists() and not model.is_adapter_available()
    assert load_nemo_adapters(model, path, allow=["theirs.Mine"]) == ["an4"]
    assert (tmp_path / "pwned").exists()


@pytest.mark.parametrize("keep", [0, 10, 500])
def test_truncated(keep: int, tmp_path: Path) -> None:
    path = write(tmp_path / "an4.pt")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(AdapterFileError) as caught:
        read_nemo_adapters(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(AdapterFileError, match="no such adapter file"):
        read_nemo_adapters(tmp_path / "absent.pt")


def test_without_omegaconf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "an4.pt")
    monkeypatch.setitem(sys.modules, "omegaconf.dictconfig", None)
    with pytest.raises(AdapterFileError, match="install omegaconf"):
        read_nemo_adapters(path)


RESIDUAL = "harness.adapters.ResidualAddAdapterStrategy"


def strategy(**options: Any) -> dict[str, Any]:
    return {"adapter_strategy": {"_target_": RESIDUAL, **options}}


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        (
            "an4",
            strategy(l2_target="adapter_output"),
            r"adapter_strategy.l2_target: adapter_output: NeMo's ResidualAddAdapterStrategy has no such option "
            r"\(it has stochastic_depth, l2_lambda\), so NeMo would compute something else; .* l2_target at result",
        ),
        ("an4", strategy(drop="row"), "adapter_strategy.drop: row: NeMo's"),
        (
            "an4",
            {"adapter_strategy": {"_target_": "elsewhere.Strategy"}},
            "NeMo has no class that computes what elsewhere.Strategy does; write a .safetensors file",
        ),
        ("e", {}, "NeMo would not find module.0.weight of an adapter of this name"),
        ("module", {}, "NeMo would not find module.0.weight of an adapter of this name"),
    ],
)
def test_what_nemo_cannot_hold(
    name: str, config: dict[str, Any], message: str, model: TinyModel, tmp_path: Path
) -> None:
    """Refused in one line, and nothing is written, from a model as from a file."""
    is_ours = config.get("adapter_strategy", {}).get("_target_", RESIDUAL) == RESIDUAL
    model.add_adapter(name, {**LINEAR, **(config if is_ours else {})})
    if not is_ours:
        model.adapter_cfg[name]["adapter_strategy"] = config["adapter_strategy"]
    for written_by in (
        lambda: model.save_adapters(tmp_path / "x.pt"),
        lambda: convert_adapters(tmp_path / "ours.safetensors", tmp_path / "x.pt"),
    ):
        with pytest.raises(AdapterFileError, match=message) as caught:
            model.save_adapters(tmp_path / "ours", probe=False)
            written_by()
        assert "\n" not in str(caught.value) and not (tmp_path / "x.pt").exists()


def test_more_that_nemo_cannot_hold(model: TinyModel, tmp_path: Path) -> None:
    model.add_adapter("lora", {"_target_": target_of(LoRA), "r": 2})
    with pytest.raises(AdapterFileError, match=r"adapter `lora`: NeMo has no class that computes what .*LoRA does"):
        model.save_adapters(tmp_path / "x.pt")
    model.remove_adapter("lora")
    model.add_adapter("mixed", {**LINEAR, "dim": [2, 3, 3]})
    with pytest.raises(AdapterFileError, match="dim: its places have 2 and 3, and NeMo has one dim for all places"):
        model.save_adapters(tmp_path / "x.pt")
    model.remove_adapter("mixed")
    model.add_adapter("an4", LINEAR)
    model.adapter_hosts()["encoder.1.point"].set_enabled_adapters("an4", enabled=False)
    with pytest.raises(AdapterFileError, match=r"off in encoder.1.point alone, and NeMo has one switch"):
        model.save_adapters(tmp_path / "x.pt")
    model.set_enabled_adapters("an4")
    for host in model.adapter_hosts().values():
        host.adapter_layer.double()
    with pytest.raises(AdapterFileError, match=r"module.0.weight is float64, which NeMo would round to float32"):
        model.save_adapters(tmp_path / "x.pt")
    wider = TinyModel()
    wider.decoder = TinyModel(dim=4).decoder
    wider.add_adapter("an4", LINEAR)
    with pytest.raises(AdapterFileError, match="in_features: its places have 4 and 6, and NeMo has one in_features"):
        wider.save_adapters(tmp_path / "x.pt")
    assert [*tmp_path.iterdir()] == []


def test_the_suffix_names_the_format(model: TinyModel, tmp_path: Path) -> None:
    model.add_adapter("encoder:an4", LINEAR)
    model.add_adapter("decoder:an4_v2", LINEAR)
    assert model.save_adapters(tmp_path / "x.pt", "an4") == [tmp_path / "x.pt"]
    assert list(read_nemo_adapters(tmp_path / "x.pt")) == ["an4"]
    assert {p.name for p in model.save_adapters(tmp_path, format="nemo")} == {"an4.pt", "an4_v2.pt"}
    assert [adapter.module for adapter in read_nemo_adapters(tmp_path / "an4_v2.pt").values()] == ["decoder"]
    for path, format, message in (
        ("y.pt", "harness", "suffix of format nemo"),
        ("y", "nemo", "a file of format nemo has the suffix .pt"),
        ("y", "pickle", "'pickle' has to be harness or nemo"),
    ):
        with pytest.raises(ValueError, match=message):
            model.save_adapters(tmp_path / path, format=format)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"x.pt: .pt is NeMo's format"):
        checkpoint.save_adapters(model, tmp_path / "x.pt")
    with pytest.raises(AdapterFileError, match=r"z.pt: there is no such adapter file"):
        TinyModel().load_adapters(tmp_path / "z.pt")


def test_a_converted_file_says_what_it_does_not_know(tmp_path: Path) -> None:
    convert_adapters(GOLDEN, tmp_path / "x.safetensors", module="decoder")
    with pytest.raises(AdapterFileError, match=r"does not say which base model .* allow_other_base=True"):
        TinyModel().load_adapters(tmp_path / "x")
    with pytest.raises(AdapterFileError, match="is for 2 hosts in their order, but the model has 1 in decoder"):
        TinyModel().load_adapters(tmp_path / "x", allow_other_base=True)
    convert_adapters(tmp_path / "x.safetensors", tmp_path / "back.pt", module="encoder")
    before, after = read_nemo_adapters(GOLDEN), read_nemo_adapters(tmp_path / "back.pt")
    for name, adapter in before.items():
        assert (after[name].module, after[name].config) == (adapter.module, adapter.config)
        for one, other in zip(adapter.states, after[name].states, strict=True):
            assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    path = write(
        tmp_path / "other.pt", __cfg__=OmegaConf.create({"an4": {"_target_": "os.system", "command": "false"}})
    )
    with pytest.raises(AdapterFileError, match=r"names the class 'os.system', which is not registered"):
        convert_adapters(path, tmp_path / "other.safetensors")
    assert not (tmp_path / "other.safetensors").exists()


def test_the_order_of_layers_is_kept(tmp_path: Path) -> None:
    """Of more than ten, which a sorted header would put as 0, 1, 10, 2; and of the adapters in a chain."""
    model = TinyModel()
    model.encoder = nn.Sequential(*(Block(6) for _ in range(12)))
    for name in ("second", "first"):
        model.add_adapter(f"encoder:{name}", LINEAR)
    randomize(model)
    model.save_adapters(tmp_path / "x", probe=False)
    convert_adapters(tmp_path / "x.safetensors", tmp_path / "x.pt")
    found = read_nemo_adapters(tmp_path / "x.pt")
    assert list(found) == ["second", "first"]
    for block, state in zip(model.encoder, found["first"].states, strict=True):
        assert torch.equal(state["module.3.weight"], block.point.get_adapter_module("first").module[3].weight)
    loaded = TinyModel()
    loaded.encoder = model.encoder
    for name in ("second", "first"):
        model.remove_adapter(name)
    assert loaded.load_adapters(tmp_path / "x", allow_other_base=True) == ["second", "first"]

    path = tmp_path / "x.safetensors"
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["harness"])
    save_file(load_file(path), path, {"harness": json.dumps(header, sort_keys=True)})  # as older versions did
    convert_adapters(path, tmp_path / "y.pt")
    assert (tmp_path / "y.pt").read_bytes() == (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.json").unlink()
    with pytest.raises(AdapterFileError, match=r"left the order of its places to x.json: put that beside it"):
        convert_adapters(path, tmp_path / "z.pt")
