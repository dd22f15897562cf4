"""LinearAdapter: signature, initialisation and keys of NeMo's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.adapters import (
    LinearAdapter,
    ResidualAddAdapterStrategy,
    ResidualAddAdapterStrategyConfig,
    ReturnResultAdapterStrategy,
    ReturnResultAdapterStrategyConfig,
)
from harness.adapters.linear import ACTIVATIONS

from .tiny_models import DIM, random_adapter

KEYS = {
    "pre": ["module.0.weight", "module.0.bias", "module.1.weight", "module.3.weight"],
    "post": ["module.0.weight", "module.2.weight", "module.3.weight", "module.3.bias"],
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_keys_size_and_zero_start(activation: str, norm_position: str, x: Tensor) -> None:
    adapter = LinearAdapter(DIM, 3, activation, norm_position)
    assert list(adapter.state_dict()) == KEYS[norm_position]
    assert sum(p.numel() for p in adapter.parameters()) == 2 * DIM * 3 + 2 * DIM
    assert adapter(x).eq(0).all()
    assert all(p.requires_grad for p in adapter.parameters())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_equals_its_layers(activation: str, norm_position: str, x: Tensor) -> None:
    adapter = random_adapter(activation=activation, norm_position=norm_position)
    assert torch.equal(adapter(x), adapter.module(x))


def test_dropout_only_if_asked(x: Tensor) -> None:
    assert LinearAdapter(DIM, 3).dropout is None
    adapter = random_adapter(dropout=0.5)
    assert isinstance(adapter.dropout, nn.Dropout)
    assert not torch.equal(adapter.train()(x), adapter.eval()(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "tanh"}, "activation has to be one of identity, hardtanh, relu, .* but got 'tanh'"),
        ({"norm_position": "mid"}, "norm_position has to be one of pre, post, but got 'mid'"),
        ({"dim": 0}, "dim has to be a whole number of at least 1, but got 0"),
        ({"dropout": 2.0}, "dropout has to be between 0 and 1, but got 2.0"),
    ],
)
def test_bad_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearAdapter(**{"in_features": DIM, "dim": 3, **options})


def test_strategies_in_every_form() -> None:
    assert type(LinearAdapter(DIM, 3).adapter_strategy) is ResidualAddAdapterStrategy
    config = ResidualAddAdapterStrategyConfig(stochastic_depth=0.5)
    assert LinearAdapter(DIM, 3, adapter_strategy=config).adapter_strategy.stochastic_depth == 0.5
    target = {"_target_": ReturnResultAdapterStrategyConfig()._target_}
    assert type(LinearAdapter(DIM, 3, adapter_strategy=target).adapter_strategy) is ReturnResultAdapterStrategy
    strategy = ReturnResultAdapterStrategy()
    assert LinearAdapter(DIM, 3, adapter_strategy=strategy).adapter_strategy is strategy
    for wrong in (3, "residual_add", ReturnResultAdapterStrategy):
        with pytest.raises(AttributeError, match="`adapter_strategy` provided is invalid"):
            LinearAdapter(DIM, 3, adapter_strategy=wrong)


def test_unfreeze() -> None:
    adapter = LinearAdapter(DIM, 3).requires_grad_(False)
    adapter.adapter_unfreeze()
    assert all(p.requires_grad for p in adapter.parameters())
