"""Widths that follow from the places: one a layer, from one to another, from a budget; and through a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.adapters import AdapterFileError, InsertionPoint
from harness.adapters.widths import open_width, told_width
from harness.instantiate import InstantiationError

from .tiny_models import DIM, LINEAR, TinyModel, randomize

LORA = {"_target_": "harness.adapters.LoRA"}


def model_with(depths: tuple[float, ...] = (1 / 3, 2 / 3, 1.0), **config: Any) -> TinyModel:
    """Three hosts in layers of these depths, with an adapter."""
    torch.manual_seed(0)
    model = TinyModel()
    for host, depth in zip(model.adapter_hosts_by_path_().values(), depths, strict=True):
        assert isinstance(host, InsertionPoint)
        host.depth_fraction = depth
    model.add_adapter("one", {**LINEAR, **config})
    return model


def widths_of(model: TinyModel) -> list[int]:
    adapters: list[Any] = [host.get_adapter_module("one") for host in model.adapter_hosts_by_path_().values()]
    return [adapter.module[1].out_features for adapter in adapters]


@pytest.mark.parametrize(
    ("dim", "expected"),
    [
        ([2, 5, 3], [2, 5, 3]),
        ({"from": 2, "to": 8}, [2, 5, 8]),
        ({"from": 2, "to": 8, "budget": None}, [2, 5, 8]),
        ({"from": 9, "to": 2}, [9, 6, 2]),  # 5.5 is rounded up
        ({"from": 1, "to": 2}, [1, 2, 2]),
        # 3 places of 2 * 6 * H + 2 * 6 weights: 36 H + 36
        ({"budget": 72}, [1, 1, 1]),
        ({"budget": 107}, [1, 1, 1]),
        ({"budget": 108}, [2, 2, 2]),
        ({"budget": 36 * 777 + 36}, [777] * 3),
    ],
)
def test_widths_follow_from_the_layers(dim: Any, expected: list[int]) -> None:
    assert widths_of(model_with(dim=dim)) == expected


def test_places_of_one_layer_have_one_width() -> None:
    """As with two adapters a layer; a list may also have one for each place."""
    depths = (0.5, 0.5, 1.0)
    assert widths_of(model_with(depths, dim=[2, 5])) == [2, 2, 5]
    assert widths_of(model_with(depths, dim=[2, 5, 3])) == [2, 5, 3]
    assert widths_of(model_with(depths, dim={"from": 4, "to": 8})) == [4, 4, 8]
    assert widths_of(model_with((1.0, 1.0, 1.0), dim={"from": 4, "to": 4})) == [4, 4, 4]


def test_any_adapter_with_a_width_has_a_budget() -> None:
    """Also one in another one; points of other widths count what they have. LoRA: r * (6 + 6) at each of 3 places."""
    for config in (
        {"_target_": "harness.adapters.LoRA", "r": {"budget": 200}},
        {"_target_": "harness.adapters.Gated", "adapter": {**LORA, "r": {"budget": 200}}},
    ):
        torch.manual_seed(0)
        model = TinyModel()
        model.encoder[0].point = InsertionPoint(2 * DIM)  # r * 24 there
        model.add_adapter("one", config)
        adapters: list[Any] = [host.get_adapter_module("one") for host in model.adapter_hosts_by_path_().values()]
        sizes = [sum(weight.numel() for weight in adapter.parameters()) for adapter in adapters]
        gates = 3 if "adapter" in config else 0  # 4 * 48 + 3 = 195
        assert sum(sizes) == 4 * (24 + 12 + 12) + gates


def test_numbers_do_not_depend_on_how_a_width_was_written() -> None:
    """What a search for a width draws is not seen by what is drawn after it."""
    plain, budget = model_with(dim=2), model_with(dim={"budget": 108})
    for name, weight in plain.state_dict().items():
        assert torch.equal(budget.state_dict()[name], weight)
    assert plain.adapter_cfg["one"] == budget.adapter_cfg["one"]


def test_what_is_told() -> None:
    for dim, text in (
        (3, None),
        ({"budget": 110}, "dim: {budget: 110}: the width is 2; 108 weights in 3 places"),
        ([1, 2, 3], "dim: [1, 2, 3]: the width is 1, 2, 3 (lowest place first); 108 weights in 3 places"),
    ):
        hosts: Any = model_with(dim=dim).adapter_hosts_by_path_().values()
        assert told_width("one", {**LINEAR, "dim": dim}, hosts) == text


@pytest.mark.parametrize(
    ("dim", "message"),
    [
        ({"budget": 71}, r"dim: {budget: 71}: no width keeps it; with a width of 1 there are 72 weights in all places"),
        ([1, 2], r"dim: \[1, 2\] has 2 widths, not 3 \(layers\)"),
        (
            [1, 2, 0],
            r"dim: \[1, 2, 0\]: a width is a whole number, a list with one for each layer, .* or",
        ),
        ([], r"dim: \[\]: a width is a whole number"),
        ({"from": 1}, r"dim: {from: 1}: a width is"),
        ({"budget": 1e3}, r"dim: {budget: 1000.0}: a width is .*; the numbers are whole and at least 1"),
        ({"budget": True}, r"dim: {budget: True}: a width is"),
        ({"form": 1, "to": 3}, r"dim: {form: 1, to: 3}: a width is"),
    ],
)
def test_bad_widths_are_one_line(dim: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        model_with(dim=dim)
    with pytest.raises(ValueError, match=r"the adapters are in one layer, so give one number"):
        model_with((1.0, 1.0, 1.0), dim={"from": 1, "to": 2})


def test_a_failure_changes_nothing() -> None:
    """An adapter that cannot be built, and one whose size is the same whatever the width is."""
    model = TinyModel()
    with pytest.raises(InstantiationError, match="activation has to be one of"):
        model.add_adapter("one", {**LINEAR, "dim": {"budget": 500}, "activation": "no"})
    with pytest.raises(ValueError, match=r"dim and adapter\.r: only one width of an adapter may be left to its places"):
        open_width({**LINEAR, "dim": [1], "adapter": {**LORA, "r": [1]}})
    with pytest.raises(ValueError, match=r"r: {budget: 50}: every width keeps it"):
        model.add_adapter("one", {"_target_": f"{__name__}.Constant", "r": {"budget": 50}})
    assert not model.is_adapter_available()
    assert all(not hasattr(host, "adapter_layer") for host in model.adapter_hosts_by_path_().values())


class Constant(torch.nn.Module):
    def __init__(self, r: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(DIM))


@pytest.mark.parametrize("layers", [None, (0.5, 1.0, 1 / 3)])
def test_a_file_says_which_host_has_which_width(layers: tuple[float, ...] | None, tmp_path: Path) -> None:
    """Though the hosts come in another order than their layers, and whether or not the other model knows these."""
    model = model_with((0.5, 1.0, 1 / 3), dim=[2, 5, 8])
    assert widths_of(model) == [5, 8, 2]
    model.save_adapters(tmp_path / "mixed", base_fingerprint="base")
    other = TinyModel()
    for host, depth in zip(other.adapter_hosts_by_path_().values(), layers or (), strict=False):
        host.depth_fraction = depth  # type: ignore[attr-defined]
    other.load_adapters(tmp_path / "mixed", base_fingerprint="base")
    assert widths_of(other) == [5, 8, 2]


def test_mixed_widths_pass_through_a_file(tmp_path: Path) -> None:
    """Into a model that was not told how deep its hosts are; a file whose widths are not the tensors' is refused."""
    model = model_with(dim={"from": 2, "to": 8})
    randomize(model)
    model.save_adapters(tmp_path / "mixed", base_fingerprint="base")
    other = TinyModel()
    other.load_adapters(tmp_path / "mixed", base_fingerprint="base")
    assert widths_of(other) == [2, 5, 8]
    for name, value in model.state_dict().items():
        assert "adapter_layer" not in name or torch.equal(other.state_dict()[name], value)
    other.save_adapters(tmp_path / "again", base_fingerprint="base")
    third = TinyModel()
    third.load_adapters(tmp_path / "again", base_fingerprint="base")
    assert widths_of(third) == [2, 5, 8]
    adapter: Any = model.decoder[0].point.adapter_cfg["one"]
    adapter["dim"] = 7  # as in a file that somebody changed
    model.save_adapters(tmp_path / "wrong", base_fingerprint="base", probe=False)
    with pytest.raises(AdapterFileError, match="size mismatch"):
        TinyModel().load_adapters(tmp_path / "wrong", base_fingerprint="base")
