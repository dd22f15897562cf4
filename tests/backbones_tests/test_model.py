"""Encoder and head together, frozen with adapters in them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from harness.adapters import freeze_backbone
from harness.adapters.freezing import is_adapter_host
from harness.backbones.encoders import SpeechEncoder, TextEncoder
from harness.backbones.model import ClassifierHead, CtcHead, TaskModel

ADAPTER = {
    "_target_": "harness.adapters.LinearAdapter",
    "dim": 4,
    "dropout": 0.5,
    "adapter_strategy": {"_target_": "harness.adapters.ResidualAddAdapterStrategy", "stochastic_depth": 0.5},
}
RETURN_RESULT = {"_target_": "harness.adapters.ReturnResultAdapterStrategy"}


def text_model() -> TaskModel:
    torch.manual_seed(0)
    return TaskModel(TextEncoder(30, 16, 3, 2, 32, dropout=0.4), ClassifierHead, 3).eval()


def speech_model() -> TaskModel:
    torch.manual_seed(0)
    return TaskModel(SpeechEncoder(6, 16, 3, 2, 32, kernel=5, dropout=0.4), CtcHead, 28).eval()


TEXT_BATCH = (torch.arange(20).reshape(2, 10), torch.tensor([10, 6]))
SPEECH_BATCH = (torch.linspace(-1, 1, 2 * 20 * 6).reshape(2, 20, 6), torch.tensor([20, 11]))
MODELS = {"text": (text_model, TEXT_BATCH), "speech": (speech_model, SPEECH_BATCH)}


@torch.no_grad()
def test_shapes_of_the_scores() -> None:
    scores_BC, valid_BT = text_model()(*TEXT_BATCH)
    assert scores_BC.shape == (2, 3) and valid_BT.sum(1).tolist() == [10, 6]
    scores_BTV, valid_BT = speech_model()(*SPEECH_BATCH)
    assert scores_BTV.shape == (2, 5, 29) and valid_BT.sum(1).tolist() == [5, 3]


@pytest.mark.parametrize("family", MODELS)
@torch.no_grad()
def test_a_frozen_model_stays_in_eval_while_its_adapters_train(family: str) -> None:
    make, batch = MODELS[family]
    model = make()
    expected = model(*batch)[0]
    freeze_backbone(model)
    model.add_adapter("a", ADAPTER)
    model.train()
    points = model.encoder.insertion_points.values()
    free = {module for point in points for module in point.adapter_layer.modules()}
    for module in model.modules():
        assert module.training == (module in free or is_adapter_host(module)), type(module).__name__
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout) and module not in free]
    assert len(dropouts) >= 3 and not any(module.training for module in dropouts)
    # Adapters start at zero, so in training mode only a frozen layer's dropout could change the output.
    assert torch.equal(model(*batch)[0], expected)
    copied = copy.deepcopy(model).train()
    assert torch.equal(copied(*batch)[0], expected)


@torch.no_grad()
def test_without_freezing_dropout_changes_the_output_in_training() -> None:
    """The test above can fail."""
    model = text_model()
    expected = model(*TEXT_BATCH)[0]
    torch.manual_seed(1)
    assert not torch.equal(model.train()(*TEXT_BATCH)[0], expected)


def test_every_strategy_that_has_a_generator_is_given_it() -> None:
    model = text_model()
    model.add_adapter("a", ADAPTER, layers=[0, 2])
    model.add_adapter("b", ADAPTER | {"adapter_strategy": RETURN_RESULT}, layers=[0])
    generator = torch.Generator()
    model.set_strategy_generator(generator)
    points = list(model.encoder.insertion_points.values())
    for number, names in ((0, ["a", "b"]), (2, ["a"])):
        for name in names:
            adapter: Any = points[number].get_adapter_module(name)
            assert adapter.adapter_strategy.generator is generator


def test_a_strategy_without_a_generator_is_left_alone() -> None:
    model = text_model()
    model.add_adapter("a", ADAPTER)

    def plain_strategy(x: torch.Tensor, adapter: nn.Module, *, module: nn.Module) -> torch.Tensor:
        return x

    adapter: Any = next(iter(model.encoder.insertion_points.values())).get_adapter_module("a")
    adapter.adapter_strategy = plain_strategy
    model.set_strategy_generator(torch.Generator())
    assert not hasattr(plain_strategy, "generator")


def test_every_insertion_point_is_told_the_progress() -> None:
    model = text_model()
    model.set_training_progress(0.25)
    assert [point.training_progress for point in model.encoder.insertion_points.values()] == [0.25] * 3
