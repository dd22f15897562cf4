"""Adapter files in NeMo's layout, among them one that NeMo wrote (tests/golden/README.md)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from harness.adapters import AdapterFileError, LinearAdapter, ResidualAddAdapterStrategy
from harness.adapters.nemo_files import (
    NEMO_TARGETS,
    load_nemo_adapters,
    read_nemo_adapters,
    translate_targets,
)
from harness.instantiate import locate

from .tiny_models import TinyModel, random_adapter

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
