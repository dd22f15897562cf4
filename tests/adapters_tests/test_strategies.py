"""What every registered strategy has to do."""

from __future__ import annotations

import dataclasses
import inspect
import typing

import hydra.utils
import pytest
import torch
from torch import Tensor

from harness.adapters import STRATEGIES, AbstractAdapterStrategy, ReturnResultAdapterStrategy
from harness.adapters.strategies.residual_add import OPTIONS
from harness.instantiate import instantiate, locate

from .tiny_models import Host, random_adapter

each_strategy = pytest.mark.parametrize("config", STRATEGIES.values(), ids=STRATEGIES)


@each_strategy
def test_config_builds_with_hydra_and_with_us(config: type) -> None:
    cls = locate(config()._target_)
    for built in (hydra.utils.instantiate(config()), instantiate(config())):
        assert type(built) is cls
        assert isinstance(built, AbstractAdapterStrategy)
        assert not isinstance(built, torch.nn.Module)
        assert built.generator is None


@each_strategy
def test_config_has_the_fields_and_defaults_of_its_class(config: type) -> None:
    fields = {f.name: f.default for f in dataclasses.fields(config) if f.name != "_target_"}
    parameters = inspect.signature(locate(config()._target_)).parameters.values()
    assert fields == {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}


@each_strategy
@pytest.mark.parametrize("training", [True, False])
def test_forward_keeps_shape_and_reaches_the_adapter(config: type, training: bool, x: Tensor) -> None:
    strategy, adapter = instantiate(config()), random_adapter()
    result = strategy(x, adapter, module=Host(training))
    torch.autograd.backward(result.sum())
    assert result.shape == x.shape and result.dtype == x.dtype
    assert all(parameter.grad is not None for parameter in adapter.parameters())


@each_strategy
def test_type_hints_resolve(config: type) -> None:
    hints = typing.get_type_hints(locate(config()._target_).__init__)
    arguments = {field.name for field in dataclasses.fields(config)} - {"_target_"}
    assert arguments <= hints.keys()  # hydra reads them; a config's fields are its class's arguments


def test_every_option_builds_with_hydra() -> None:
    for name, choices in OPTIONS.items():
        for value in choices:
            built = hydra.utils.instantiate(dataclasses.replace(STRATEGIES["residual_add"](), **{name: value}))
            assert getattr(built, name) == value


def test_return_result_splats(x: Tensor) -> None:
    strategy = ReturnResultAdapterStrategy()
    linear = random_adapter()
    assert torch.equal(strategy(x, linear, module=None), linear(x))
    assert torch.equal(strategy([x], linear, module=None), linear(x))
    assert torch.equal(strategy((x,), linear, module=None), linear(x))
    assert torch.equal(strategy({"x": x}, linear, module=None), linear(x))


def test_abstract_strategy_says_what_is_missing(x: Tensor) -> None:
    with pytest.raises(NotImplementedError, match="AbstractAdapterStrategy does not define forward"):
        AbstractAdapterStrategy()(x, random_adapter(), module=None)
