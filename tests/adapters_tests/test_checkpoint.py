"""Adapter files: exact names, the base model, probes, and disks that fail."""

from __future__ import annotations

import copy
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.adapters import AdapterFileError, AdapterModelMixin, InsertionPoint, ResidualAddAdapterStrategy, checkpoint
from harness.adapters.adapter_file import read_adapter_file, write_adapter_file
from harness.errors import TrialError

from .tiny_models import DIM, LINEAR, TinyModel, randomize


class Own(ResidualAddAdapterStrategy):
    """A strategy of a user's own."""


@pytest.fixture
def filled(model: TinyModel) -> TinyModel:
    """Two adapters with names that contain each other, random weights, one host disabled."""
    model.add_adapter("encoder:an4", LINEAR)
    model.add_adapter("an4_v2", {**LINEAR, "norm_position": "post", "activation": "gelu"})
    for i, host in enumerate(model.adapter_hosts().values()):
        randomize(host.adapter_layer, seed=i)
    model.encoder[1].point.set_enabled_adapters("an4", False)
    return model.eval()


def emptied(model: TinyModel) -> TinyModel:
    twin = copy.deepcopy(model)
    for name in twin.adapter_names_():
        twin.remove_adapter(name)
    return twin


def test_round_trip(filled: TinyModel, tmp_path: Path, x: Tensor) -> None:
    files = filled.save_adapters(tmp_path / "both")
    assert [path.name for path in files] == ["both.safetensors", "both.json"]
    fresh = emptied(filled)
    assert fresh.load_adapters(tmp_path / "both") == ["an4", "an4_v2"]
    assert torch.equal(fresh(x), filled(x))
    assert fresh.adapter_cfg == filled.adapter_cfg
    assert [h.get_enabled_adapters() for h in fresh.adapter_hosts().values()] == [
        ["an4", "an4_v2"],
        ["an4_v2"],
        ["an4_v2"],
    ]
    assert fresh.state_dict().keys() == filled.state_dict().keys()


def test_adapters_come_back_in_the_order_in_which_they_ran(model: TinyModel, tmp_path: Path, x: Tensor) -> None:
    for seed, name in enumerate(("second", "first")):
        model.add_adapter(f"encoder:{name}", LINEAR)
        for host in model.adapter_hosts("encoder").values():
            randomize(host.adapter_layer[name], seed)
    model.eval().save_adapters(tmp_path / "both")
    fresh = emptied(model)
    assert fresh.load_adapters(tmp_path / "both") == ["second", "first"]
    assert torch.equal(fresh(x), model(x))


def test_header(filled: TinyModel, tmp_path: Path) -> None:
    filled.save_adapters(tmp_path / "one.safetensors", name="encoder:an4", base_fingerprint="abc")
    header = json.loads((tmp_path / "one.json").read_text())
    assert header["format"] == "harness-adapters" and header["format_version"] == 1
    assert header["base_fingerprint"] == "abc" and list(header["adapters"]) == ["an4"]
    assert header["adapters"]["an4"]["module"] == "encoder"
    assert list(header["adapters"]["an4"]["hosts"]) == ["encoder.0.point", "encoder.1.point"]
    _, tensors = read_adapter_file(tmp_path / "one")
    assert not any("an4_v2" in key for key in tensors)


def test_folder_holds_one_file_an_adapter(filled: TinyModel, tmp_path: Path) -> None:
    files = filled.save_adapters(tmp_path)
    assert {path.stem for path in files} == {"an4", "an4_v2"}
    assert emptied(filled).load_adapters(tmp_path) == ["an4", "an4_v2"]
    assert emptied(filled).load_adapters(tmp_path, "an4") == ["an4"]
    with pytest.raises(AdapterFileError, match=r"an\.safetensors: there is no such adapter file"):
        emptied(filled).load_adapters(tmp_path, "an")


def test_names_that_are_not_there(filled: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"No adapter with name `an` in the model. Adapter names = \['an4', 'an4_v2'\]"
    ):
        filled.save_adapters(tmp_path / "x", "an")
    filled.save_adapters(tmp_path / "x")
    with pytest.raises(AdapterFileError, match="no adapter named an; there are: an4, an4_v2"):
        emptied(filled).load_adapters(tmp_path / "x", "an")
    with pytest.raises(ValueError, match="No adapters have been added"):
        emptied(filled).save_adapters(tmp_path / "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AdapterFileError, match="there is no adapter file in this folder"):
        filled.load_adapters(tmp_path / "empty")


def test_other_base_model(filled: TinyModel, tmp_path: Path) -> None:
    filled.save_adapters(tmp_path / "x")
    other = emptied(filled)
    with torch.no_grad():
        other.head.bias.add_(1e-6)
    with pytest.raises(AdapterFileError, match=r"trained on another base model .* allow_other_base=True"):
        other.load_adapters(tmp_path / "x")
    assert not other.is_adapter_available()
    assert other.load_adapters(tmp_path / "x", allow_other_base=True) == ["an4", "an4_v2"]
    assert checkpoint.fingerprint_base_model(filled) == checkpoint.fingerprint_base_model(emptied(filled))


def test_a_fingerprint_leaves_out_adapters_under_every_name_of_their_host() -> None:
    """And nothing but adapters: a base model may have an `adapter_layer` of its own."""

    class Named(nn.Module, AdapterModelMixin):
        def __init__(self) -> None:
            super().__init__()
            self.point = InsertionPoint(DIM)
            self.points = nn.ModuleList([self.point])
            self.layer = nn.Module()
            self.layer.adapter_layer = nn.Linear(DIM, DIM)

    model = Named()
    before = checkpoint.fingerprint_base_model(model)
    model.add_adapter("one", LINEAR)
    assert checkpoint.fingerprint_base_model(model) == before
    with torch.no_grad():
        model.layer.adapter_layer.bias.add_(1.0)  # type: ignore[union-attr, operator]
    assert checkpoint.fingerprint_base_model(model) != before


def test_adapters_of_that_name_exist_and_nothing_changes(filled: TinyModel, tmp_path: Path) -> None:
    filled.save_adapters(tmp_path / "x")
    half = emptied(filled)
    half.add_adapter("an4_v2", LINEAR)
    with pytest.raises(ValueError, match="already exists"):
        half.load_adapters(tmp_path / "x")
    assert half.adapter_names_() == ["an4_v2"]


def test_missing_host(filled: TinyModel, tmp_path: Path) -> None:
    filled.save_adapters(tmp_path / "x")
    smaller = emptied(filled)
    del smaller.encoder[1]
    message = r"adapter `an4` belongs in encoder\.1\.point, but the model has hosts at: encoder\.0\.point"
    with pytest.raises(AdapterFileError, match=message):
        smaller.load_adapters(tmp_path / "x", allow_other_base=True)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("keep", [0, 7, 300])
def test_truncated(suffix: str, keep: int, filled: TinyModel, tmp_path: Path) -> None:
    filled.save_adapters(tmp_path / "x")
    path = tmp_path / f"x{suffix}"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(AdapterFileError) as caught:
        emptied(filled).load_adapters(tmp_path / "x")
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_flipped_bit_and_foreign_json(filled: TinyModel, tmp_path: Path) -> None:
    filled.save_adapters(tmp_path / "x")
    path = tmp_path / "x.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    good = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(AdapterFileError, match="corrupt: the tensors do not have the hash"):
        read_adapter_file(tmp_path / "x")
    path.write_bytes(good)
    filled.save_adapters(tmp_path / "y", "an4")
    (tmp_path / "x.json").write_bytes((tmp_path / "y.json").read_bytes())
    with pytest.raises(AdapterFileError, match=r"remove the \.json file"):
        read_adapter_file(tmp_path / "x")
    (tmp_path / "x.json").unlink()
    assert len(emptied(filled).load_adapters(tmp_path / "x")) == 2


def test_a_file_chooses_no_class_and_no_code(
    filled: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    filled.save_adapters(tmp_path / "x", "an4")
    header, tensors = read_adapter_file(tmp_path / "x")
    config = header["adapters"]["an4"]["config"]
    command = {"_target_": "os.mkdir", "path": "pwned"}
    for changed in (command, {**config, "adapter_strategy": command}, {**config, "activation": [{"x": command}]}):
        header["adapters"]["an4"]["config"] = changed
        write_adapter_file(tmp_path / "x", tensors, header["adapters"], header["base_fingerprint"])
        with pytest.raises(AdapterFileError, match=r"adapter `an4` names the class 'os\.mkdir', which is not"):
            emptied(filled).load_adapters(tmp_path / "x")
        with pytest.raises(ValueError, match=r"os\.mkdir` is in Python's standard library"):
            emptied(filled).load_adapters(tmp_path / "x", allow=["os.mkdir"])
    assert not (tmp_path / "pwned").exists()


def test_own_classes_are_loaded_if_the_caller_allows_them(filled: TinyModel, tmp_path: Path) -> None:
    filled.add_adapter("own", {**LINEAR, "adapter_strategy": {"_target_": f"{__name__}.Own"}})
    filled.save_adapters(tmp_path / "x", "own")
    with pytest.raises(AdapterFileError, match=rf"names the class '{__name__}\.Own', .* allow=\['{__name__}\.Own'\]"):
        emptied(filled).load_adapters(tmp_path / "x")
    for allowed in (Own, f"{__name__}.Own"):
        assert emptied(filled).load_adapters(tmp_path / "x", allow=[allowed]) == ["own"]


@pytest.mark.parametrize(
    "adapters",
    [[], {"an4": 3}, {"an4": {}}, {"an4": {"module": "", "config": 3, "hosts": {}}}]
    + [
        {"an4": {"module": "", "config": {}, "hosts": hosts}}
        for hosts in ({"p": 3}, {"p": {"enabled": True, "keys": ["x"], "probe": []}})
    ],
)
def test_a_header_of_another_form(adapters: Any, filled: TinyModel, tmp_path: Path) -> None:
    write_adapter_file(tmp_path / "x", {}, adapters, "abc")
    with pytest.raises(AdapterFileError, match=r"x\.safetensors: the header's adapters? .*"):
        emptied(filled).load_adapters(tmp_path / "x", base_fingerprint="abc")


@pytest.mark.parametrize(("field", "value"), [("format", "other"), ("format_version", 99)])
def test_other_format(field: str, value: Any, filled: TinyModel, tmp_path: Path) -> None:
    filled.save_adapters(tmp_path / "x")
    path = tmp_path / "x.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(AdapterFileError, match="format"):
        read_adapter_file(tmp_path / "x")


@pytest.mark.parametrize("fingerprint", [None, 3, ["abc"]])
def test_a_fingerprint_that_is_no_text(fingerprint: Any, tmp_path: Path) -> None:
    write_adapter_file(tmp_path / "x", {}, {}, fingerprint)
    with pytest.raises(AdapterFileError, match=r"x\.safetensors: the header's base_fingerprint is no text: "):
        read_adapter_file(tmp_path / "x")


@pytest.mark.parametrize("target", [["os.mkdir"], {"a": 1}, None, 3])
def test_a_target_that_is_no_text_is_not_registered(target: Any, filled: TinyModel, tmp_path: Path) -> None:
    adapters = {"an4": {"module": "", "config": {"_target_": target}, "hosts": {}}}
    write_adapter_file(tmp_path / "x", {}, adapters, "abc")
    with pytest.raises(AdapterFileError, match=r"adapter `an4` names the class .*, which is not registered"):
        emptied(filled).load_adapters(tmp_path / "x", base_fingerprint="abc")


def test_full_disk_leaves_the_old_files(filled: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.save_adapters(tmp_path / "x")
    old = {path: path.read_bytes() for path in tmp_path.iterdir()}
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:  # the second file does not fit
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    randomize(filled.encoder[0].point.adapter_layer, seed=9)
    with pytest.raises(TrialError, match="No space left"):
        filled.save_adapters(tmp_path / "x")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == old


def test_types_are_kept_and_modes_are_left_alone(filled: TinyModel, tmp_path: Path, x: Tensor) -> None:
    filled.double().train()
    filled(x.double())  # strategies may hold graphs in their registries
    filled.save_adapters(tmp_path / "x")
    assert all(module.training for module in filled.modules())
    fresh = emptied(filled)
    fresh.load_adapters(tmp_path / "x")
    assert {p.dtype for p in fresh.parameters()} == {torch.float64}
    assert torch.equal(fresh.eval()(x.double()), filled.eval()(x.double()))


def test_probe_options(filled: TinyModel, tmp_path: Path) -> None:
    filled.save_adapters(tmp_path / "x", probe=False)
    assert not any(key.startswith("probe/") for key in read_adapter_file(tmp_path / "x")[1])
    filled.save_adapters(tmp_path / "x", probe=torch.ones(1, 6))
    assert emptied(filled).load_adapters(tmp_path / "x") == ["an4", "an4_v2"]
    with pytest.raises(ValueError, match=r"a probe of shape \[1, 5\] in float64 cannot be computed .* probe=False"):
        filled.save_adapters(tmp_path / "x", probe=torch.ones(1, 5))


def test_config_that_json_cannot_hold(model: TinyModel, tmp_path: Path) -> None:
    strategy = ResidualAddAdapterStrategy()
    model.add_adapter("an4", {**LINEAR, "adapter_strategy": strategy})
    with pytest.raises(ValueError, match="the adapter configs cannot be written as JSON"):
        model.save_adapters(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
