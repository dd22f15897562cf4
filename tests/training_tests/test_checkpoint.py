"""Checkpoints: what is saved comes back to the bit, and not one changed byte goes unnoticed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from harness.errors import TrialError
from harness.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)


def make_checkpoint() -> Checkpoint:
    tensors = {
        "weights/a.b": torch.tensor([1.0, float("nan"), -0.0, 1e-45]),
        "weights/c": torch.arange(6, dtype=torch.float64).reshape(2, 3).T,  # not contiguous
        "best/c": torch.tensor(3, dtype=torch.int64),
    }
    return Checkpoint(tensors, {"epoch": 3, "best_score": 0.1 + 0.2, "history": [{"metrics": {"é": 1e-17}}]})


def test_tensors_and_values_come_back_to_the_bit(tmp_path: Path) -> None:
    path, saved = tmp_path / "new folder" / "checkpoint.safetensors", make_checkpoint()
    save_checkpoint(path, saved)
    loaded = load_checkpoint(path)
    assert loaded.values == saved.values
    assert loaded.tensors.keys() == saved.tensors.keys()
    for name, tensor in saved.tensors.items():
        found = loaded.tensors[name]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        bits = [value.contiguous().reshape(-1).view(torch.uint8) for value in (found, tensor)]
        assert torch.equal(*bits)
    assert loaded.group("weights").keys() == {"a.b", "c"} and loaded.group("best").keys() == {"c"}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def assert_damaged(path: Path) -> None:
    with pytest.raises(TrialError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert caught.value.reason == "damaged"
    assert message.startswith(f"{path}: damaged checkpoint (") and "\n" not in message and len(message) < 500
    assert "; delete it to " in message


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    """In the length, the header with the plain values, the hash itself, and the tensors."""
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, make_checkpoint())
    content = path.read_bytes()
    assert b"best_score" in content
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1
        path.write_bytes(bytes(changed))
        try:
            found = load_checkpoint(path)
        except TrialError:
            continue
        # Spaces that pad the header carry nothing.
        assert content[position : position + 1] == b" ", position
        assert found.values == make_checkpoint().values


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, -1])
def test_a_truncated_file_is_damaged(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, make_checkpoint())
    path.write_bytes(path.read_bytes()[:kept])
    assert_damaged(path)


@pytest.mark.parametrize(
    "metadata",
    [None, {"values": "{}"}, {"sha256": "0"}, {"values": "{", "sha256": "0"}],
    ids=["no header", "no hash", "no values", "values cut"],
)
def test_another_safetensors_file_is_damaged(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_file({"weights/a": torch.zeros(2)}, path, metadata)
    assert_damaged(path)


def test_a_folder_in_its_place_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").mkdir()
    assert_damaged(tmp_path / "checkpoint.safetensors")


def fail_with_full_disk(*arguments: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["os.fsync", "os.replace"])
def test_a_full_disk_leaves_the_previous_checkpoint(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, make_checkpoint())
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(call, fail_with_full_disk)
        with pytest.raises(TrialError, match=r"cannot be written: No space left on device$") as caught:
            save_checkpoint(path, Checkpoint({"weights/a": torch.zeros(3)}, {}))
    assert caught.value.reason == "disk" and str(caught.value).startswith(f"{path}: ")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def trained(make: Callable[[], nn.Linear], num_steps: int) -> tuple[nn.Linear, torch.optim.AdamW]:
    linear = make()
    optimizer = torch.optim.AdamW(linear.parameters(), lr=0.1)
    for step in range(num_steps):
        optimizer.zero_grad()
        linear(torch.full((1, 3), step + 1.0)).square().sum().backward()
        optimizer.step()
    return linear, optimizer


def test_an_optimizer_goes_on_from_its_tensors() -> None:
    def make() -> nn.Linear:
        torch.manual_seed(0)
        return nn.Linear(3, 2)

    names = ["weight", "bias"]
    linear, optimizer = trained(make, 3)
    tensors = optimizer_tensors(optimizer, names)
    assert tensors.keys() == {f"{name}/{field}" for name in names for field in ("step", "exp_avg", "exp_avg_sq")}
    copied = {name: tensor.clone() for name, tensor in tensors.items()}
    twin = make()
    twin.load_state_dict(linear.state_dict())
    other = torch.optim.AdamW(twin.parameters(), lr=0.1)
    load_optimizer_tensors(other, names, copied)
    for model, its in ((linear, optimizer), (twin, other)):
        its.zero_grad()
        model(torch.ones(1, 3)).sum().backward()
        its.step()
    assert all(torch.equal(a, b) for a, b in zip(linear.parameters(), twin.parameters(), strict=True))


def test_a_fresh_optimizer_has_no_tensors() -> None:
    linear = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(linear.parameters())
    assert optimizer_tensors(optimizer, ["weight", "bias"]) == {}
    load_optimizer_tensors(optimizer, ["weight", "bias"], {})
    assert len(optimizer.state) == 0
