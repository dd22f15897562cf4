"""ResidualAddAdapterStrategy: NeMo's semantics by default, and each option on its own."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.adapters import InsertionPoint, ResidualAddAdapterStrategy, functional

from .test_functional import FORMS, SLOPES
from .tiny_models import DIM, Host, random_adapter


def registered(adapter: nn.Module) -> list[Tensor]:
    registry: dict[str, list[Tensor]] = getattr(adapter, "_registry", {})
    return registry.get("adapter_loss", [])


def gradients(adapter: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in adapter.parameters()]


def test_eval_is_input_plus_output_and_draws_nothing(x: Tensor) -> None:
    adapter, strategy = random_adapter(), ResidualAddAdapterStrategy(stochastic_depth=1.0, l2_lambda=1.0)
    before = torch.get_rng_state()
    assert torch.equal(strategy(x, adapter, module=Host(training=False)), x + adapter(x))
    assert torch.equal(torch.get_rng_state(), before)
    assert registered(adapter) == []


def test_zero_probability_draws_nothing(x: Tensor) -> None:
    adapter, before = random_adapter(), torch.get_rng_state()
    ResidualAddAdapterStrategy()(x, adapter, module=Host())
    assert torch.equal(torch.get_rng_state(), before)


def test_probability_one_returns_the_input_with_zero_gradients(x: Tensor) -> None:
    adapter, strategy = random_adapter(), ResidualAddAdapterStrategy(stochastic_depth=1.0)
    result = strategy(x, adapter, module=Host())
    torch.autograd.backward(result.sum())
    assert torch.equal(result, x)
    assert all(grad is not None and not grad.any() for grad in gradients(adapter))


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan"), "0.5", None])
def test_probability_out_of_range(p: Any, x: Tensor) -> None:
    message = f"Stochastic depth probability has to be between 0 and 1, but got {p}"
    with pytest.raises(ValueError) as caught:
        ResidualAddAdapterStrategy(stochastic_depth=p)
    assert str(caught.value) == message
    strategy = ResidualAddAdapterStrategy()
    strategy.stochastic_depth = p
    with pytest.raises(ValueError) as caught:
        strategy(x, random_adapter(), module=Host())
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2_lambda": -1.0}, "l2_lambda has to be a finite number and at least 0, but got -1.0"),
        ({"l2_lambda": float("inf")}, "l2_lambda has to be a finite number"),
        ({"l2_target": "x"}, "l2_target has to be one of result, adapter_output, but got 'x'"),
        ({"l2_reduction": "mean"}, "l2_reduction has to be one of sum, valid_frame_mean"),
        ({"l2_form": "cubed"}, "l2_form has to be one of squared, norm, relative, relative_norm, but got 'cubed'"),
        ({"drop": "token"}, "drop has to be one of batch, row, frame, but got 'token'"),
        ({"noise": "nemo"}, "noise has to be one of own, global, but got 'nemo'"),
        ({"skip_dropped": "yes"}, "skip_dropped has to be one of False, True"),
        ({"depth_schedule": "cosine"}, "depth_schedule has to be one of constant, linear"),
        ({"progress_schedule": "cosine"}, "progress_schedule has to be one of constant, linear"),
        ({"skip_dropped": True, "l2_target": "adapter_output", "l2_lambda": 0.1}, "change one of the three"),
        ({"skip_dropped": True, "drop": "frame"}, "drop='frame' drops parts of rows"),
        ({"skip_dropped": True, "noise": "global"}, "noise='global' draws after, as NeMo"),
        ({"l2_form": "norm", "l2_reduction": "valid_element_mean"}, "choose valid_frame_mean or sum"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResidualAddAdapterStrategy(**options)


def test_l2_value_and_when_it_is_registered(x: Tensor) -> None:
    adapter, strategy = random_adapter(), ResidualAddAdapterStrategy(l2_lambda=0.5)
    result = strategy(x, adapter, module=Host())
    expected = 0.5 * (x - result).square().reshape(x.shape[0], -1).sum(-1).mean()
    torch.testing.assert_close(registered(adapter), [expected])
    frozen = random_adapter()
    next(frozen.parameters()).requires_grad_(False)
    strategy(x, frozen, module=Host())
    assert registered(frozen) == []
    refusing = random_adapter()
    refusing.update_access_cfg({"compute_adapter_loss": False})
    strategy(x, refusing, module=Host())
    assert registered(refusing) == []


def test_l2_needs_access_mixin(x: Tensor) -> None:
    with pytest.raises(ValueError) as caught:
        ResidualAddAdapterStrategy(l2_lambda=0.5)(x, nn.Linear(DIM, DIM), module=Host())
    assert str(caught.value) == "Module Linear does not implement AccessMixin !"


def test_own_generator_is_reproducible_and_leaves_the_default_alone(x: Tensor) -> None:
    strategy = ResidualAddAdapterStrategy(stochastic_depth=0.5, drop="row")
    adapter, results = random_adapter(), []
    before = torch.get_rng_state()
    for _ in range(2):
        strategy.generator = torch.Generator().manual_seed(3)
        results.append([strategy(x, adapter, module=Host()) for _ in range(8)])
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_copied_strategy_has_its_own_generator() -> None:
    strategy = ResidualAddAdapterStrategy(stochastic_depth=0.5)
    strategy.generator = torch.Generator().manual_seed(3)
    twin = copy.deepcopy(strategy)
    assert twin.generator is not None and twin.generator is not strategy.generator
    state = twin.generator.get_state()
    torch.rand(1, generator=strategy.generator)
    assert torch.equal(twin.generator.get_state(), state)


@pytest.mark.parametrize("drop", ["batch", "row"])
@pytest.mark.parametrize("l2_lambda", [0.0, 0.5])
def test_skipping_equals_dropping(drop: str, l2_lambda: float, x: Tensor) -> None:
    found = []
    for skip in (False, True):
        strategy = ResidualAddAdapterStrategy(0.5, l2_lambda, drop=drop, skip_dropped=skip)
        strategy.generator = torch.Generator().manual_seed(0)
        adapter = random_adapter()
        results = [strategy(x, adapter, module=Host()) for _ in range(6)]
        loss = torch.stack(results).square().sum() + sum(registered(adapter))
        torch.autograd.backward(loss)
        found.append([torch.stack(results), *gradients(adapter)])
    for dropped, skipped in zip(*found, strict=True):
        torch.testing.assert_close(skipped, dropped)


@pytest.mark.parametrize("drop", ["batch", "row"])
def test_skipping_runs_only_what_is_kept(drop: str, x: Tensor) -> None:
    rows: list[int] = []
    adapter = random_adapter()
    adapter.register_forward_pre_hook(lambda module, args: rows.append(args[0].shape[0]))
    strategy = ResidualAddAdapterStrategy(0.5, drop=drop, skip_dropped=True)
    strategy.generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        strategy(x, adapter, module=Host())
    assert 0 < sum(rows) < 40 * x.shape[0]
    assert 0 not in rows


def test_row_drop_keeps_some_rows(x: Tensor) -> None:
    strategy = ResidualAddAdapterStrategy(0.5, drop="row")
    strategy.generator = torch.Generator().manual_seed(0)
    wide, adapter = x[:1].repeat(64, 1, 1), random_adapter()
    difference = strategy(wide, adapter, module=Host()) - wide
    kept = difference.abs().amax(dim=(1, 2)) > 0
    assert 16 < kept.sum() < 48
    torch.testing.assert_close(difference[kept][0], 2 * adapter(x[0]))


@pytest.mark.parametrize("seed", range(4))
def test_frame_drop_draws_real_frames_alone(seed: int, x: Tensor) -> None:
    """One draw for each real frame, row by row: x + f m / keep. Padded frames have x + f, however many there are."""
    lengths, adapter, found = torch.tensor([3, 1]), random_adapter(), []
    strategy = ResidualAddAdapterStrategy(0.6, drop="frame")
    drawn = torch.empty(4).bernoulli_(0.4, generator=torch.Generator().manual_seed(seed))
    for num_steps in (3, 4, 9):
        strategy.generator, host = torch.Generator().manual_seed(seed), InsertionPoint(DIM)
        wide = torch.zeros(2, num_steps, DIM)
        wide[:, : min(4, num_steps)] = x[:, :num_steps]
        host.valid_frames = torch.arange(num_steps) < lengths[:, None]
        found.append([strategy(wide, adapter, module=host) for _ in range(3)])
        scale = torch.ones(2, num_steps, 1)
        scale[0, :3, 0], scale[1, 0, 0] = drawn[:3] / 0.4, drawn[3] / 0.4
        torch.testing.assert_close(found[-1][0], wide + scale * adapter(wide))
    for calls in found[1:]:  # the generator has moved as far in each call, whatever the padding
        for wide_result, result in zip(calls, found[0], strict=True):
            torch.testing.assert_close(wide_result[0, :3], result[0, :3])
            torch.testing.assert_close(wide_result[1, :1], result[1, :1])


@pytest.mark.parametrize("form", functional.L2_FORMS)
@pytest.mark.parametrize("target", ["result", "adapter_output"])
@pytest.mark.parametrize("drop", functional.DROP_UNITS)
def test_every_form_in_numpy(drop: str, target: str, form: str) -> None:
    """Values, and the gradient of a loss and the penalty by the adapter's last weights: x + s f with s = m / keep."""
    keep, draw, lengths = 0.5, np.random.default_rng(3), np.array([4, 2, 3])
    valid = np.arange(4) < lengths[:, None]
    x, weights = draw.normal(size=(3, 4, DIM)), draw.normal(size=(3, 4, DIM))
    host, adapter = InsertionPoint(DIM), random_adapter().double()
    host.valid_frames = torch.from_numpy(valid)
    options: dict[str, Any] = {"l2_target": target, "l2_form": form, "l2_reduction": "valid_frame_mean"}
    strategy = ResidualAddAdapterStrategy(1 - keep, 0.3, drop=drop, **options)
    for seed in range(6):
        drawn = torch.empty({"batch": 1, "row": 3, "frame": int(lengths.sum())}[drop], dtype=torch.float64)
        drawn.bernoulli_(keep, generator=torch.Generator().manual_seed(seed))
        scale = np.ones((3, 4))  # of padded frames, where single frames are dropped
        if drop == "frame":
            scale[valid] = drawn.numpy() / keep
        else:
            scale[:] = drawn.numpy()[:, None] / keep
        layers: Any = adapter.module
        hidden = layers[:-1](torch.from_numpy(x)).detach().numpy()
        f = np.einsum("dh,bth->btd", layers[-1].weight.detach().numpy(), hidden)
        d = f if target == "adapter_output" else scale[..., None] * f
        sizes = np.sqrt((x**2).sum(-1) + 1e-6)
        strategy.generator = torch.Generator().manual_seed(seed)
        result = strategy(torch.from_numpy(x), adapter, module=host)
        (penalty,) = registered(adapter)
        np.testing.assert_allclose(result.detach(), x + scale[..., None] * f, rtol=1e-12, atol=1e-12)
        share = 0.3 * valid / lengths.sum()
        assert penalty.item() == pytest.approx(float((share * FORMS[form](d, sizes)).sum()), rel=1e-12)
        with np.errstate(invalid="ignore"):  # d / |d| where d was dropped: that gradient is 0
            slope = share[..., None] * np.nan_to_num(SLOPES[form](d, sizes))
        by_f = scale[..., None] * weights + (slope if target == "adapter_output" else scale[..., None] * slope)
        (found,) = torch.autograd.grad((result * torch.from_numpy(weights)).sum() + penalty, layers[-1].weight)
        np.testing.assert_allclose(found, np.einsum("btd,bth->dh", by_f, hidden), rtol=1e-9, atol=1e-12)
        vars(adapter).pop("_registry")


@pytest.mark.parametrize("drop", ["batch", "row", "frame"])
@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_every_unit_of_dropping_has_the_same_ends(drop: str, probability: float, x: Tensor) -> None:
    strategy, adapter, host = ResidualAddAdapterStrategy(probability, drop=drop), random_adapter(), InsertionPoint(DIM)
    host.valid_frames = torch.arange(4) < torch.tensor([[3], [1]])
    assert torch.equal(strategy(x, adapter, module=host), x if probability else x + adapter(x))


def test_global_noise_is_that_of_torch_whatever_generator_is_set(x: Tensor) -> None:
    strategy, adapter = ResidualAddAdapterStrategy(0.5, noise="global"), random_adapter()
    strategy.generator = torch.Generator().manual_seed(3)
    torch.manual_seed(7)
    found = [bool((strategy(x, adapter, module=Host()) != x).any()) for _ in range(12)]
    torch.manual_seed(7)
    assert found == [bool(torch.empty(1, 1, 1).bernoulli_(0.5)) for _ in range(12)]
    assert set(found) == {True, False}


def test_adapter_output_target_is_free_of_the_noise(x: Tensor) -> None:
    strategy, adapter = ResidualAddAdapterStrategy(0.9, 0.5, l2_target="adapter_output"), random_adapter()
    for _ in range(5):
        strategy(x, adapter, module=Host())
    expected = 0.5 * adapter(x).square().reshape(x.shape[0], -1).sum(-1).mean()
    assert all(torch.equal(loss, expected) for loss in registered(adapter))


def test_valid_frames_of_the_host_are_used_and_checked(x: Tensor) -> None:
    strategy, adapter = (
        ResidualAddAdapterStrategy(l2_lambda=1.0, l2_reduction="valid_frame_mean"),
        random_adapter(),
    )
    host = InsertionPoint(DIM)
    host.valid_frames = torch.tensor([[True, True, False, False], [True, False, False, False]])
    strategy(x, adapter, module=host)
    norms = adapter(x).square().sum(-1)
    torch.testing.assert_close(registered(adapter)[0], norms[host.valid_frames].mean())
    host.valid_frames = host.valid_frames[:, :3]
    with pytest.raises(ValueError, match=r"valid_frames .* has shape \[2, 3\], .* frames \[2, 4\]"):
        strategy(x, adapter, module=host)


def test_schedules_read_the_host(x: Tensor) -> None:
    host = InsertionPoint(DIM)
    host.depth_fraction, host.training_progress = 0.5, 0.25
    strategy = ResidualAddAdapterStrategy(0.8, depth_schedule="linear", progress_schedule="linear")
    assert strategy.drop_probability_in(host) == pytest.approx(0.1)
    host.training_progress = 0.0
    adapter, before = random_adapter(), torch.get_rng_state()
    strategy(x, adapter, module=host)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(
        ValueError, match=r"depth_schedule='linear' needs `depth_fraction` in \[0, 1\] on the host Host"
    ):
        strategy(x, random_adapter(), module=Host())
