"""A copied model: what `copy.deepcopy` gives, of every kind of encoder that the tests can make."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrained_kinds import write_encoder
from torch import nn

from harness.backbones.copying import copy_model
from harness.backbones.encoders import SpeechEncoder, TextEncoder
from harness.backbones.model import ClassifierHead, CtcHead, TaskModel
from harness.backbones.pretrained import PretrainedTextEncoder

from .tiny_whisper import tiny_whisper

TEXT_KINDS = ("albert", "bart", "bert", "big_bird", "deberta-v2", "gpt2", "longformer", "mistral", "modernbert", "t5")


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict([*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)])


def assert_copied(model: nn.Module) -> None:
    """As deepcopy copies it: same classes, numbers, flags and ties, and no tensor or module shared with the model."""
    found, expected = copy_model(model), copy.deepcopy(model)
    assert [(name, type(one)) for name, one in found.named_modules()] == [
        (name, type(one)) for name, one in expected.named_modules()
    ]
    ours, theirs, before = tensors(found), tensors(expected), tensors(model)
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]) and tensor.requires_grad == theirs[name].requires_grad
        assert type(tensor) is type(theirs[name])
        assert tensor.numel() == 0 or tensor.data_ptr() != before[name].data_ptr()
    assert _ties(ours) == _ties(theirs) == _ties(before)
    for (_, mine), (_, there) in zip(found.named_modules(), expected.named_modules(), strict=True):
        assert list(vars(mine)) == list(vars(there)) and mine.training == there.training
    own = {id(one) for one in model.modules()}
    assert not own & {id(one) for one in found.modules()}
    for one in found.modules():
        for hook in one._forward_pre_hooks.values():
            assert id(getattr(hook, "__self__", None)) not in own  # it would reach into the model that was copied


def _ties(named: dict[str, torch.Tensor]) -> set[frozenset[str]]:
    by_tensor: dict[int, set[str]] = {}
    for name, tensor in named.items():
        by_tensor.setdefault(id(tensor), set()).add(name)
    return {frozenset(names) for names in by_tensor.values() if len(names) > 1}


@pytest.mark.parametrize("trains", [True, False])
def test_own_encoders(trains: bool) -> None:
    text = TaskModel(TextEncoder(30, 16, 3, 2, 32, dropout=0.4), ClassifierHead, 3)
    speech = TaskModel(SpeechEncoder(6, 16, 3, 2, 32, kernel=5, dropout=0.4), CtcHead, 28)
    for model in (text, speech):
        model.head.requires_grad_(False)
        assert_copied(model.train(trains))


def test_an_adapted_model() -> None:
    model = TaskModel(TextEncoder(30, 16, 3, 2, 32), ClassifierHead, 3)
    strategy = {"_target_": "harness.adapters.ResidualAddAdapterStrategy", "stochastic_depth": 0.5}
    model.add_adapter("a", {"_target_": "harness.adapters.LinearAdapter", "dim": 4, "adapter_strategy": strategy})
    assert_copied(model)
    copied = copy_model(model)
    ids, lengths = torch.arange(20).reshape(2, 10), torch.tensor([10, 6])
    with torch.no_grad():
        expected = model.eval()(ids, lengths)[0]
        for weight in copied.parameters():
            weight.add_(1.0)
        assert torch.equal(model(ids, lengths)[0], expected)
        assert not torch.equal(copied.eval()(ids, lengths)[0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_encoders_of_transformers(kind: str, tmp_path: Path) -> None:
    """Their hooks, tied weights, caches of positions; the copy computes the same, and hooks of its own are called."""
    model = TaskModel(PretrainedTextEncoder(write_encoder(kind, tmp_path), 16), ClassifierHead, 3).eval()
    assert_copied(model)
    ids, lengths = torch.arange(1, 17).reshape(2, 8), torch.tensor([8, 5])
    with torch.no_grad():
        assert torch.equal(copy_model(model)(ids, lengths)[0], model(ids, lengths)[0])


def test_weights_that_are_tied() -> None:
    """Whisper's decoder shares its table with the output layer."""
    assert_copied(tiny_whisper())


class Linked(nn.Module):
    """Attributes that lead back, hold modules outside of `_modules`, and are shared."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.settings: dict[str, Any] = {"width": 2}
        object.__setattr__(self, "aside", [self.inner, self])
        self.inner.register_forward_pre_hook(self.note)
        self.num_calls = 0
        self.table = torch.arange(3.0)  # no buffer
        self.layers, self.nothing, self.chosen = nn.ModuleList(), None, {2: "b"}
        self.register_module("absent", None)

    def note(self, module: nn.Module, inputs: Any) -> None:
        self.num_calls += 1


class OwnWay(nn.Linear):
    """A module that says how it is copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> OwnWay:
        made = OwnWay(self.in_features, self.out_features)
        made.was_asked = True
        return made

    was_asked = False


def test_what_modules_may_hold() -> None:
    model = Linked()
    found = copy_model(model)
    aside: Any = found.aside
    assert aside[0] is found.inner and aside[1] is found
    found.settings["width"] = 3
    found.table.add_(1)
    assert model.table.tolist() == [0, 1, 2] and found.layers is not model.layers and found.absent is None
    found.layers.append(nn.Linear(1, 1))
    assert len(model.layers) == 0
    found.inner(torch.ones(1, 2))
    assert (model.settings["width"], model.num_calls, found.num_calls) == (2, 0, 1)
    own = copy_model(nn.Sequential(OwnWay(2, 2)))
    assert isinstance(own[0], OwnWay) and own[0].was_asked
    weight = nn.Parameter(torch.ones(2))
    holder = nn.Module()
    holder.weight = weight
    assert copy_model(holder, {id(weight): weight}).weight is weight
