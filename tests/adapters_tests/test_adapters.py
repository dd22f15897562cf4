"""What every registered adapter has to do: a new entry in ADAPTERS is tested without a line here."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import hydra.utils
import pytest
import torch
from torch import Tensor, nn

from harness.adapters import ADAPTERS, AccessMixin, InsertionPoint
from harness.adapters.packed import PackedAdapter, packed_adapter, reads_padding
from harness.instantiate import to_plain

from .registered import build, cases, class_of, host, name_of, seeded, sizes_of
from .tiny_models import DIM, randomize

each_adapter = pytest.mark.parametrize("name", ADAPTERS)
each_case = pytest.mark.parametrize(("name", "options"), cases(ADAPTERS), ids=name_of)
K, B, T = 3, 4, 5


@each_adapter
def test_config_builds_with_hydra_and_in_a_host(name: str) -> None:
    """Also without `in_features`, which the host fills in."""
    config, cls = ADAPTERS[name], class_of(ADAPTERS[name])
    built = config(**sizes_of(config))
    assert type(hydra.utils.instantiate(built)) is cls
    point = InsertionPoint(DIM)
    plain = {key: value for key, value in to_plain(built).items() if key != "in_features"}
    point.add_adapter("one", plain)
    assert type(point.get_adapter_module("one")) is cls
    assert issubclass(cls, AccessMixin)  # a penalty finds its way to the loss


@each_adapter
def test_config_has_the_fields_and_defaults_of_its_class(name: str) -> None:
    fields = {f.name: f.default for f in dataclasses.fields(ADAPTERS[name]) if f.name != "_target_"}
    parameters = inspect.signature(class_of(ADAPTERS[name])).parameters.values()
    assert list(fields) == [p.name for p in parameters]
    told = {p.name: p.default for p in parameters if p.default not in (inspect.Parameter.empty, None)}
    assert told == {key: fields[key] for key in told}


@each_case
def test_it_starts_as_the_identity_and_can_leave_it(name: str, options: dict[str, Any], x: Tensor) -> None:
    """With the strategy it has when none is given; some weight has a gradient from the first step on."""
    adapter = build(ADAPTERS[name], **options)
    point = host(training=False)
    result = adapter.adapter_strategy(x, adapter, module=point)
    assert torch.equal(result, x)
    torch.autograd.backward(result.square().sum())
    assert any(bool(weight.grad.any()) for weight in adapter.parameters() if weight.grad is not None)


@each_case
def test_it_keeps_shape_and_reaches_all_its_weights(name: str, options: dict[str, Any], x: Tensor) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        adapter = randomize(build(ADAPTERS[name], **options).to(dtype))
        output = adapter(x.to(dtype))
        assert output.shape == x.shape and output.dtype == dtype
        torch.autograd.backward(output.square().sum())
        assert all(weight.grad is not None and bool(weight.grad.any()) for weight in adapter.parameters())


@each_case
def test_what_it_says_of_padding_is_true(name: str, options: dict[str, Any]) -> None:
    """The output at real steps is the same whatever padded steps hold; one that says it reads them shows it."""
    adapter = randomize(build(ADAPTERS[name], **options))
    valid_BT = torch.arange(T) < torch.tensor([5, 3, 1, 4])[:, None]
    outputs = []
    for seed in (1, 2):
        padding_BTD = torch.randn(B, T, DIM, generator=seeded(seed))
        x_BTD = torch.where(valid_BT[..., None], torch.randn(B, T, DIM, generator=seeded(0)), padding_BTD)
        torch.manual_seed(3)
        if hasattr(adapter, "valid_frames"):
            adapter.valid_frames = valid_BT  # as its host tells it
        outputs.append(adapter(x_BTD)[valid_BT])
    said: Any = adapter
    if "reads_padding" in vars(type(adapter)):
        assert said.reads_padding(training=True) != torch.equal(*outputs)
    else:
        assert reads_padding(adapter, training=True)


def test_what_only_inherits_declares_nothing() -> None:
    for config in ADAPTERS.values():
        adapter = build(config)
        adapter.__class__ = type("Subclass", (class_of(config),), {})
        assert packed_adapter(adapter) is None and reads_padding(adapter, training=False)


# --- packed form ------------------------------------------------------------------------------------------------------


def packed_cases() -> list[tuple[str, dict[str, Any]]]:
    """Those that can be packed."""
    found = [(name, options, build(ADAPTERS[name], **options)) for name, options in cases(ADAPTERS)]
    forms = [(name, options, adapter, packed_adapter(adapter)) for name, options, adapter in found]
    return [(name, options) for name, options, adapter, form in forms if form and form.why_not(adapter) is None]


def run_each(adapters: list[Any], x_KBTD: Tensor, weights_KBTD: Tensor) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Each adapter's output and the gradients of its weights."""
    found = []
    for adapter, x, weights in zip(adapters, x_KBTD, weights_KBTD, strict=True):
        output, named = adapter(x), dict(adapter.named_parameters())
        gradients = torch.autograd.grad((output * weights).sum(), list(named.values()))
        found.append((output.detach(), dict(zip(named, gradients, strict=True))))
    return found


def pad(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    padded = value.new_zeros(shape)
    padded[tuple(slice(size) for size in value.shape)] = value
    return padded


def stack(adapters: list[nn.Module], name: str, packed: PackedAdapter) -> Tensor:
    """One weight of all of them, padded, [K, ...], as a leaf."""
    values = [adapter.get_parameter(name).detach() for adapter in adapters]
    padded = [pad(value, packed.padded_shape(name, tuple(value.shape))) for value in values]
    return torch.stack(padded).requires_grad_()


@pytest.mark.parametrize(("name", "options"), packed_cases(), ids=name_of)
def test_the_packed_form_is_the_plain_form(name: str, options: dict[str, Any]) -> None:
    """Outputs and gradients of adapters of several sizes at once, to 1e-12 in float64; padding stays 0."""
    sizes = [f.name for f in dataclasses.fields(ADAPTERS[name]) if f.name != "in_features" and f.type == "int"]
    adapters: list[nn.Module] = [
        randomize(build(ADAPTERS[name], **options, **dict.fromkeys(sizes, size)), seed=size).double()
        for size in (3, 5, 8)
    ]
    form = packed_adapter(adapters[0])
    assert form is not None
    groups: dict[Any, list[nn.Module]] = {}
    for adapter in adapters:
        groups.setdefault(form.of(adapter), []).append(adapter)
    for packed, members in groups.items():
        x_KBTD, weights_KBTD = (
            torch.randn(len(members), B, T, DIM, generator=seeded(s), dtype=torch.float64) for s in (1, 2)
        )
        expected = run_each(members, x_KBTD, weights_KBTD)
        leaves = {name: stack(members, name, packed) for name, _ in members[0].named_parameters()}
        output_KBTD = packed.run(leaves, x_KBTD)
        gradients = torch.autograd.grad((output_KBTD * weights_KBTD).sum(), list(leaves.values()))
        for k, (output, alone) in enumerate(expected):
            torch.testing.assert_close(output_KBTD[k].detach(), output, rtol=1e-12, atol=1e-12)
            for key, gradient_K in zip(leaves, gradients, strict=True):
                theirs = pad(alone[key], gradient_K[k].shape)
                torch.testing.assert_close(gradient_K[k], theirs, rtol=1e-12, atol=1e-12)
