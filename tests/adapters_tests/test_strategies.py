"""What every registered strategy has to do: a new entry in STRATEGIES is tested without a line here."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from typing import Any

import hydra.utils
import pytest
import torch
from torch import Tensor

from harness.adapters import STRATEGIES, AbstractAdapterStrategy, ReturnResultAdapterStrategy, functional
from harness.adapters.linear import PackedLinear
from harness.adapters.packed import PackedCall, packed_strategy, reads_padding
from harness.instantiate import instantiate

from .registered import AMOUNT, DEPTH, PROGRESS, build, cases, class_of, host, losses_of, name_of, seeded
from .tiny_models import DIM, Host, random_adapter

each_strategy = pytest.mark.parametrize("config", STRATEGIES.values(), ids=STRATEGIES)
each_case = pytest.mark.parametrize(("name", "options"), cases(STRATEGIES), ids=name_of)
K, B, T = 3, 4, 5


@each_strategy
def test_config_builds_with_hydra_and_with_us(config: type) -> None:
    for built in (hydra.utils.instantiate(config()), instantiate(config())):
        assert type(built) is class_of(config)
        assert isinstance(built, AbstractAdapterStrategy)
        assert not isinstance(built, torch.nn.Module)
        assert built.generator is None


@each_strategy
def test_config_has_the_fields_and_defaults_of_its_class(config: type) -> None:
    fields = {f.name: f.default for f in dataclasses.fields(config) if f.name != "_target_"}
    parameters = inspect.signature(class_of(config)).parameters.values()
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
    cls: Any = class_of(config)
    hints = typing.get_type_hints(cls.__init__)
    arguments = {field.name for field in dataclasses.fields(config)} - {"_target_"}
    assert arguments <= hints.keys()  # hydra reads them; a config's fields are its class's arguments


@each_case
def test_every_option_builds_with_hydra(name: str, options: dict[str, Any]) -> None:
    built = hydra.utils.instantiate(STRATEGIES[name](**options))
    assert {option: getattr(built, option) for option in options} == options


# --- padding ----------------------------------------------------------------------------------------------------------


@each_case
@pytest.mark.parametrize("training", [True, False])
def test_what_it_says_of_padding_is_true(name: str, options: dict[str, Any], training: bool) -> None:
    """Real steps and penalties are the same whatever padded steps hold; one that says it reads them shows it."""
    strategy, adapter = build(STRATEGIES[name], **options), random_adapter()
    valid_BT = torch.arange(T) < torch.tensor([5, 3, 1, 4])[:, None]
    found = []
    for seed in (1, 2):
        x_BTD = torch.where(valid_BT[..., None], torch.randn(B, T, DIM, generator=seeded(0)), 0.0)
        x_BTD = torch.where(valid_BT[..., None], x_BTD, torch.randn(B, T, DIM, generator=seeded(seed)))
        strategy.generator = seeded(3)
        results = [strategy(x_BTD, adapter, module=host(training, valid_BT))[valid_BT] for _ in range(8)]
        found.append([*results, *losses_of(adapter)])
    is_read = not all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    if "reads_padding" in vars(type(strategy)):
        assert strategy.reads_padding(training) == is_read
    else:
        assert strategy.reads_padding(training)  # nothing is declared, so everything is computed


def test_what_only_inherits_declares_nothing() -> None:
    """A subclass may compute anything, whatever its parent says."""
    for config in STRATEGIES.values():
        subclass = type("Subclass", (class_of(config),), {})
        assert packed_strategy(subclass()) is None
        adapter = random_adapter(adapter_strategy=subclass())
        assert reads_padding(adapter, training=False) and reads_padding(adapter, training=True)
        plain = random_adapter(adapter_strategy=instantiate(config()))
        assert not reads_padding(plain, training=False)
        plain.__class__ = type("OtherAdapter", (type(plain),), {})
        assert reads_padding(plain, training=False)


# --- packed form ------------------------------------------------------------------------------------------------------


def trials(name: str, options: dict[str, Any]) -> list[Any]:
    """K strategies of one variant; their numeric options differ."""
    changed = [{k: v * (1 - k_ / K) if v == AMOUNT else v for k, v in options.items()} for k_ in range(K)]
    return [build(STRATEGIES[name], **each) for each in changed]


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """x [K, B, T, D], the real steps [K, B, T], and weights of a loss on the result."""
    x_KBTD, weights_KBTD = (torch.randn(K, B, T, DIM, generator=seeded(s), dtype=torch.float64) for s in (1, 2))
    lengths_KB1 = torch.randint(1, T + 1, (K, B, 1), generator=seeded(3))
    return x_KBTD, torch.arange(T) < lengths_KB1, weights_KBTD


def each_alone(strategies: list[Any], adapters: list[Any], training: bool) -> list[Tensor]:
    """Result, penalty and gradients of each trial, stacked."""
    found = []
    for k, (strategy, adapter, x, valid, weights) in enumerate(zip(strategies, adapters, *inputs(), strict=True)):
        strategy.generator = seeded(10 + k)
        result = strategy(x, adapter, module=host(training, valid))
        penalty = sum(losses_of(adapter), torch.zeros((), dtype=torch.float64))
        gradients = torch.autograd.grad((result * weights).sum() + penalty, list(adapter.parameters()))
        found.append([result.detach(), penalty.detach(), *gradients])
    return [torch.stack(parts) for parts in zip(*found, strict=True)]


def all_at_once(strategies: list[Any], adapters: list[Any], training: bool) -> list[Tensor]:
    """The same, by the packed form."""
    form = packed_strategy(strategies[0])
    assert form is not None
    x_KBTD, valid_KBT, weights_KBTD = inputs()
    keeps = [1.0 - form.drop_probability(strategy, DEPTH, PROGRESS) for strategy in strategies]
    noise = functional.draw_packed_noise(
        (K, B, T, DIM),
        keeps,
        [seeded(10 + k) for k in range(K)],
        drop=[form.drop_unit(strategy) for strategy in strategies],
        valid_frames=list(valid_KBT),
        dtype=torch.float64,
    )
    noisy = training and any(keep != 1.0 for keep in keeps)
    names = [name for name, _ in adapters[0].named_parameters()]
    leaves = [torch.stack([a.get_parameter(name).detach() for a in adapters]).requires_grad_() for name in names]
    packed_adapter = PackedLinear.of(adapters[0])
    call = PackedCall(
        run=lambda x: packed_adapter.run(dict(zip(names, leaves, strict=True)), x),
        training=training,
        variant=next((v for s in strategies if (v := form.variant(s, training)) is not None), None),
        options={o: torch.tensor([getattr(s, o) for s in strategies], dtype=torch.float64) for o in form.options},
        noise=noise if noisy else None,
        keep_K=torch.tensor(keeps, dtype=torch.float64) if noisy else None,
        valid_KBT=valid_KBT,
        own_KBT=None,
        num_own_rows_K=torch.full((K,), B),
        penalties=[],
    )
    result_KBTD = form.merge(call, x_KBTD)
    penalty_K = sum(call.penalties, torch.zeros(K, dtype=torch.float64))
    gradients = torch.autograd.grad((result_KBTD * weights_KBTD).sum() + penalty_K.sum(), leaves)
    return [result_KBTD.detach(), penalty_K.detach(), *gradients]


def furthest(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-3)) for a, b in zip(found, expected, strict=True))


def can_be_packed(name: str, options: dict[str, Any]) -> bool:
    strategy = build(STRATEGIES[name], **options)
    form = packed_strategy(strategy)
    return form is not None and form.why_not(strategy) is None


@pytest.mark.parametrize(("name", "options"), [c for c in cases(STRATEGIES) if can_be_packed(*c)], ids=name_of)
@pytest.mark.parametrize("training", [True, False])
def test_the_packed_form_is_the_plain_form(name: str, options: dict[str, Any], training: bool) -> None:
    """Result, penalty and gradients of K trials at once, to 1e-12 in float64; and the comparison can fail."""
    strategies = trials(name, options)
    adapters = [random_adapter(seed=k).double() for k in range(K)]
    expected = each_alone(strategies, adapters, training)
    assert furthest(all_at_once(strategies, adapters, training), expected) < 1e-12
    strangers = [random_adapter(seed=k + 1).double() for k in range(K)]
    assert furthest(all_at_once(strategies, strangers, training), expected) > 1e-6


def test_equal_forms_share_a_pack() -> None:
    """A form is a value: two of a kind are equal, and strategies of two kinds are not."""
    forms = [packed_strategy(instantiate(config())) for config in STRATEGIES.values()]
    kept = [form for form in forms if form is not None]
    assert len(set(kept)) == len(kept) and kept == [type(form)() for form in kept]


# --- single strategies ------------------------------------------------------------------------------------------------


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
