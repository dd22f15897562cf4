"""A frozen backbone stays in eval mode; hosts and adapters do not."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harness.adapters.freezing import (
    freeze_backbone,
    freeze_batchnorm_layers,
    freeze_module,
    is_frozen,
    unfreeze_backbone,
)

from .tiny_models import LINEAR, Block, TinyModel


def frozen_part(model: nn.Module) -> list[nn.Module]:
    return [
        m
        for m in model.modules()
        if isinstance(m, (nn.BatchNorm1d, nn.Dropout, nn.Linear, Block)) and not isinstance(m, TinyModel)
    ]


def check(model: TinyModel) -> None:
    model.eval()
    for trained in (model.train(), model.encoder.train(), model.decoder[0].train()):
        assert trained is not None
    inside = {m for host in model.adapter_hosts().values() for m in host.adapter_layer.modules()}
    outside = [m for m in frozen_part(model) if m not in inside]
    assert outside and not any(m.training for m in outside)
    assert all(m.training for m in inside)
    for host in model.adapter_hosts().values():
        assert host.training  # type: ignore[attr-defined]
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {name for name, _ in model.named_parameters() if ".adapter_layer." in name}


def test_freeze_survives_train_deepcopy_and_pickle(model: TinyModel) -> None:
    model.add_adapter("an4", LINEAR)
    freeze_backbone(model)
    for each in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        check(each)
    twin = copy.deepcopy(model)
    twin.train()
    assert twin.encoder.__dict__["train"].module is twin.encoder
    freeze_backbone(model)
    check(model)


def test_state_dict_is_the_same_and_loads(model: TinyModel, tmp_path: Path) -> None:
    model.add_adapter("an4", LINEAR)
    keys = list(model.state_dict())
    freeze_backbone(model)
    assert list(model.state_dict()) == keys
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    model.load_state_dict(load_file(tmp_path / "model.safetensors"))
    check(model)


def test_training_leaves_the_backbone_bit_for_bit(model: TinyModel, x: Tensor) -> None:
    model.add_adapter("an4", LINEAR)
    freeze_backbone(model)
    before = {k: v.clone() for k, v in model.state_dict().items() if ".adapter_layer." not in k}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    for _ in range(3):
        model.train()
        optimizer.zero_grad()
        torch.autograd.backward(model(x).square().mean())
        optimizer.step()
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_unfreeze_restores(model: TinyModel) -> None:
    model.add_adapter("an4", LINEAR)
    model.head.bias.requires_grad_(False)
    model.decoder.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    grads = {name: p.requires_grad for name, p in model.named_parameters()}
    freeze_backbone(model)
    freeze_backbone(model)
    unfreeze_backbone(model)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert {name: p.requires_grad for name, p in model.named_parameters()} == grads
    model.train()
    assert all(module.training for module in model.modules())
    assert not any(is_frozen(module) for module in model.modules())


def test_a_head_can_stay_trainable(model: TinyModel) -> None:
    freeze_backbone(model, trainable=[model.head])
    model.train()
    assert model.head.training and model.head.weight.requires_grad
    assert not model.encoder.training


def test_batchnorm_in_adapters_is_not_frozen(model: TinyModel) -> None:
    model.add_adapter("encoder:an4", {"_target_": "torch.nn.BatchNorm1d", "num_features": 4})
    frozen = freeze_batchnorm_layers(model)
    assert frozen == ["encoder.0.norm", "encoder.1.norm", "decoder.0.norm"]
    model.train()
    assert model.encoder[0].point.adapter_layer["an4"].training
    assert model.encoder[0].dropout.training and not model.encoder[0].norm.training


def test_adapter_added_after_freezing_trains(model: TinyModel) -> None:
    freeze_backbone(model)
    model.add_adapter("an4", LINEAR)
    check(model)


def test_a_frozen_adapter_is_unfrozen_with_the_enabled_ones(model: TinyModel) -> None:
    """As a whole: its weights learn, and its dropout drops, also after the next `.train()`."""
    point = model.encoder[0].point
    point.add_adapter("one", {**LINEAR, "dropout": 0.5})
    adapter = point.get_adapter_module("one")
    freeze_module(adapter)
    point.unfreeze_enabled_adapters()
    assert all(weight.requires_grad for weight in adapter.parameters())
    for _ in range(2):
        assert all(module.training for module in adapter.modules())
        point.train()
    assert not any(module.training for module in adapter.eval().modules())
