"""One test for each defect of NeMo 3.0.0 that this package must not inherit, in the order of its list."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.adapters import (
    AdapterModuleUtil,
    InsertionPoint,
    LinearAdapter,
    ResidualAddAdapterStrategy,
    functional,
)

from .tiny_models import DIM, LINEAR, Host, TinyModel, random_adapter, randomize


def with_l2(l2_lambda: float, **options: object) -> dict[str, object]:
    strategy = {"_target_": "harness.adapters.ResidualAddAdapterStrategy", "l2_lambda": l2_lambda, **options}
    return {**LINEAR, "adapter_strategy": strategy}


def train(model: TinyModel, x: Tensor, steps: int) -> list[Tensor]:
    model.unfreeze_enabled_adapters()
    parameters = [p for host in model.hosts_of_adapter("an4").values() for p in host.adapter_layer.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.eval().train()(x).square().mean()
        auxiliary = model.collect_adapter_losses()
        torch.autograd.backward(loss if auxiliary is None else loss + auxiliary)
        optimizer.step()
    return list(parameters)


@pytest.fixture
def own_objects() -> Iterator[None]:
    """What lives before the test is left out of the search for tensors, which would take half a minute among it."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def live_graph_tensors() -> int:
    gc.collect()
    tensors = [item for item in gc.get_objects() if issubclass(type(item), Tensor)]  # isinstance runs foreign code
    return sum(tensor.grad_fn is not None for tensor in tensors)


@pytest.mark.slow
@pytest.mark.usefixtures("own_objects")
def test_1_l2_reaches_the_optimizer_and_nothing_piles_up(x: Tensor) -> None:
    found = []
    for l2_lambda in (0.0, 0.5):
        torch.manual_seed(0)
        model = TinyModel()
        model.add_adapter("an4", with_l2(l2_lambda))
        for host in model.hosts_of_adapter("an4").values():
            randomize(host.adapter_layer)
        torch.manual_seed(1)
        found.append([p.grad.clone() for p in train(model, x, 1) if p.grad is not None])
        before = live_graph_tensors()
        train(model, x, 50)
        assert live_graph_tensors() <= before
        assert all(not getattr(module, "_registry", {}) for module in model.modules())
        assert model.collect_adapter_losses() is None
    assert all(not torch.allclose(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.slow
@pytest.mark.usefixtures("own_objects")
def test_1_leak_check_can_fail(x: Tensor) -> None:
    adapter, strategy = random_adapter(), ResidualAddAdapterStrategy(l2_lambda=0.5)
    before = live_graph_tensors()
    for _ in range(5):
        strategy(x, adapter, module=Host())
    assert live_graph_tensors() >= before + 5


@pytest.mark.parametrize(("target", "factor"), [("result", 4.0), ("adapter_output", 1.0)])
def test_2_p_and_lambda_can_be_separated(target: str, factor: float, x: Tensor) -> None:
    adapter, strategy = random_adapter(), ResidualAddAdapterStrategy(0.75, 1.0, l2_target=target)
    strategy.generator = torch.Generator().manual_seed(0)
    for _ in range(3000):
        with torch.no_grad():
            strategy(x, adapter, module=Host())
    mean = torch.stack(adapter._registry["adapter_loss"]).mean()
    alone = adapter(x).square().reshape(x.shape[0], -1).sum(-1).mean()
    assert (mean / alone).item() == pytest.approx(factor, rel=0.1)


@pytest.mark.parametrize(
    ("reduction", "values"),
    [("sum", [8.0, 80.0, 800.0]), ("valid_frame_mean", [8.0] * 3), ("valid_element_mean", [1.0] * 3)],
)
def test_3_l2_need_not_grow_with_length_and_width(reduction: str, values: list[float]) -> None:
    found = [functional.l2_penalty(torch.ones(2, t, 8), 1.0, reduction=reduction).item() for t in (1, 10, 100)]
    assert found == pytest.approx(values)


def test_4_rows_and_schedules(x: Tensor) -> None:
    strategy = ResidualAddAdapterStrategy(1.0, drop="row", depth_schedule="linear", progress_schedule="linear")
    host = InsertionPoint(DIM)
    for depth, progress, expected in ((1.0, 1.0, 1.0), (0.5, 1.0, 0.5), (0.5, 0.5, 0.25), (1.0, 0.0, 0.0)):
        host.depth_fraction, host.training_progress = depth, progress
        assert strategy.drop_probability_in(host) == expected
    assert functional.draw_noise(x.shape, 0.5, drop="row").shape == (2, 1, 1)


class Explosive(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float("inf")


@pytest.mark.parametrize("skip", [False, True])
def test_5_dropped_infinities_are_zero_and_can_be_skipped(skip: bool, x: Tensor) -> None:
    strategy = ResidualAddAdapterStrategy(1.0, skip_dropped=skip)
    assert torch.equal(strategy(x, Explosive(), module=Host()), x)


class Parameterless(nn.Module, AdapterModuleUtil):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


@pytest.mark.parametrize("skip", [False, True])
def test_6_parameterless_adapter(skip: bool, x: Tensor) -> None:
    strategy = ResidualAddAdapterStrategy(0.0, 0.5, skip_dropped=skip)
    assert torch.equal(strategy(x, Parameterless(), module=Host()), x + 2 * x)


def test_7_frozen_batchnorm_stays_frozen(model: TinyModel, x: Tensor) -> None:
    model.add_adapter("an4", LINEAR)
    base = copy.deepcopy(model).eval()
    base.set_enabled_adapters(enabled=False)
    expected = base(x)
    model.unfreeze_enabled_adapters()
    model.train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
    assert norms and not any(norm.training for norm in norms)
    model(10 * x)
    model.eval().set_enabled_adapters(enabled=False)
    assert torch.equal(model(x), expected)


def test_8_names_match_exactly_and_nothing_is_pickled(model: TinyModel, tmp_path: Path) -> None:
    model.add_adapter("encoder:an4", LINEAR)
    model.add_adapter("encoder:an4_v2", LINEAR)
    model.save_adapters(tmp_path / "one", name="an4")
    fresh = copy.deepcopy(model)
    for name in ("an4", "an4_v2"):
        fresh.remove_adapter(name)
    assert fresh.load_adapters(tmp_path / "one") == ["an4"]
    assert fresh.adapter_names_() == ["an4"]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]


def test_9_missing_strategy_and_duplicate_names(x: Tensor) -> None:
    host = InsertionPoint(DIM)
    host.add_adapter("an4", LINEAR)
    with pytest.raises(ValueError, match=r"Adapter with name `an4` already exists ! Adapter names = \['an4'\]"):
        host.add_adapter("an4", {**LINEAR, "dim": 5})
    assert host.adapter_cfg["an4"]["dim"] == 3
    del host.adapter_layer["an4"].adapter_strategy
    with pytest.raises(AttributeError, match="Adapter module `an4` does not set the value `adapter_strategy` !"):
        host(x)


def test_10_a_changed_computation_is_noticed(model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model.add_adapter("an4", {**LINEAR, "activation": "gelu"})
    for host in model.hosts_of_adapter("an4").values():
        randomize(host.adapter_layer)
    model.save_adapters(tmp_path / "an4")
    model.remove_adapter("an4")

    class TanhGELU(nn.GELU):
        def __init__(self) -> None:
            super().__init__(approximate="tanh")

    monkeypatch.setitem(LinearAdapter.__init__.__globals__["ACTIVATIONS"], "gelu", TanhGELU)
    with pytest.raises(ValueError, match="no longer computes what it did when it was saved"):
        model.load_adapters(tmp_path / "an4")
    assert not model.is_adapter_available()


def test_11_whether_it_runs_and_in_which_layers(model: TinyModel, x: Tensor) -> None:
    model.add_adapter("encoder:an4", LINEAR, layers=[1])
    assert list(model.hosts_of_adapter("an4")) == ["encoder.1.point"]
    model(x)
    assert model.encoder[1].point.adapter_calls == {"an4": 1}
