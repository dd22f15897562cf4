"""NeMo's real classes in our mixins, and ours in NeMo's. Skipped unless nemo-toolkit is installed.

What is needed is small, because none of NeMo's dependencies but these is imported:

    pip install --no-deps nemo_toolkit==3.0.0 lightning==2.4.0 lightning_utilities torchmetrics wrapt onnx \\
        ml_dtypes nv_one_logger_core nv_one_logger_training_telemetry \\
        nv_one_logger_pytorch_lightning_integration strenum overrides toml einops sentencepiece
    pip install hydra-core
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from trial_configs import MakeConfig

import harness.adapters as ours
from harness.adapters import AdapterModelMixin, AdapterModuleMixin, InsertionPoint, collect_adapter_losses
from harness.adapters.nemo_files import read_nemo_adapters
from harness.adapters.nemo_writing import NEMO_OPTIONS, convert_adapters
from harness.instantiate import accepted_keywords, target_of
from harness.training.resources import Resources
from harness.training.trial import Trial

from .test_golden import CASES, run
from .tiny_models import DIM, TinyModel, randomize

pytestmark = pytest.mark.nemo
STRATEGIES_MODULE = "nemo.core.classes.mixins.adapter_mixin_strategies"

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # NeMo's own imports warn
    adapter_modules: Any = pytest.importorskip(
        "nemo.collections.common.parts.adapter_modules", reason="nemo-toolkit is not installed"
    )
    adapter_mixins: Any = pytest.importorskip("nemo.core.classes.mixins.adapter_mixins")
    adapter_mixin_strategies: Any = pytest.importorskip(STRATEGIES_MODULE)
    nemo_common: Any = pytest.importorskip("nemo.core.classes.common")

NEMO_LINEAR = "nemo.collections.common.parts.adapter_modules.LinearAdapter"
NEMO_RESIDUAL = f"{STRATEGIES_MODULE}.ResidualAddAdapterStrategy"
OUR_LINEAR = "harness.adapters.LinearAdapter"
OUR_RESIDUAL = "harness.adapters.ResidualAddAdapterStrategy"
PAIRS = [(linear, residual) for linear in (NEMO_LINEAR, OUR_LINEAR) for residual in (NEMO_RESIDUAL, OUR_RESIDUAL)]
LAMBDA = 0.25


def config(linear: str, residual: str, **options: Any) -> dict[str, Any]:
    strategy = {"_target_": residual, "stochastic_depth": 0.5, "l2_lambda": LAMBDA, **options}
    return {"_target_": linear, "in_features": DIM, "dim": 3, "adapter_strategy": strategy}


class NemoHost(nn.Module, adapter_mixins.AdapterModuleMixin):  # type: ignore[misc]
    """A host with NeMo's own mixin."""

    def forward(self, x: Tensor) -> Tensor:
        host: Any = self
        return x if not host.is_adapter_available() else host.forward_enabled_adapters(x)


class NemoModel(nn.Module, adapter_mixins.AdapterModelPTMixin):  # type: ignore[misc]
    """A model with NeMo's own model mixin, as far as saving needs it."""

    def __init__(self) -> None:
        super().__init__()
        from omegaconf import OmegaConf

        self.cfg = OmegaConf.create({})
        self.encoder = nn.ModuleList([NemoHost(), NemoHost()])

    def add_adapter(self, name: str, cfg: Any) -> None:
        super().add_adapter(name, cfg)
        hosts: Any = self.encoder
        for host in hosts:
            host.add_adapter(name, cfg)


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our targets in NeMo's allow lists, for one test."""
    for name in ("ALLOWED_TARGET_PREFIXES", "ALLOWED_ADAPTER_STRATEGY_PREFIXES"):
        monkeypatch.setattr(nemo_common, name, list(getattr(nemo_common, name)))
    ours.allow_in_nemo()


def outputs(host: nn.Module, x: Tensor, steps: int = 6) -> list[Tensor]:
    """Results, losses and gradients of some training steps."""
    randomize(host, seed=2)
    host.train()
    torch.manual_seed(5)
    found = []
    for _ in range(steps):
        result = host(x)
        auxiliary = collect_adapter_losses(host)
        assert auxiliary is not None
        torch.autograd.backward(result.square().sum() + auxiliary)
        found += [result.detach(), auxiliary.detach()]
    return [*found, *(p.grad for p in host.parameters() if p.grad is not None)]


def our_host(linear: str, residual: str) -> InsertionPoint:
    host = InsertionPoint(DIM)
    host.add_adapter("an4", config(linear, residual))
    return host


@pytest.mark.parametrize(("linear", "residual"), PAIRS)
def test_all_combinations_in_our_mixin_are_equal(linear: str, residual: str, x: Tensor) -> None:
    for found, expected in zip(outputs(our_host(linear, residual), x), outputs(our_host(*PAIRS[0]), x), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(("linear", "residual"), PAIRS)
@pytest.mark.usefixtures("allowed")
def test_all_combinations_in_nemos_mixin_are_equal(linear: str, residual: str, x: Tensor) -> None:
    host: Any = NemoHost()
    host.add_adapter("an4", config(linear, residual))
    assert host.get_enabled_adapters() == ["an4"]
    for found, expected in zip(outputs(host, x), outputs(our_host(*PAIRS[0]), x), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.usefixtures("allowed")
def test_our_config_dataclass_in_nemos_mixin(x: Tensor) -> None:
    host: Any = NemoHost()
    host.add_adapter("an4", ours.LinearAdapterConfig(in_features=DIM, dim=3))
    assert type(host.get_adapter_module("an4")).__name__ == "LinearAdapter"
    assert torch.equal(host(x), x)


def test_nemos_config_dataclass_in_our_mixin(x: Tensor) -> None:
    host = InsertionPoint(DIM)
    host.add_adapter("an4", adapter_modules.LinearAdapterConfig(in_features=DIM, dim=3))
    assert isinstance(host.get_adapter_module("an4"), adapter_modules.LinearAdapter)
    assert torch.equal(host(x), x)


def test_strategy_objects_can_be_exchanged(x: Tensor) -> None:
    nemos: Any = adapter_modules.LinearAdapter(DIM, 3, adapter_strategy=None)
    nemos.setup_adapter_strategy(ours.ResidualAddAdapterStrategy(0.5))
    assert isinstance(nemos.adapter_strategy, ours.ResidualAddAdapterStrategy)
    mine: Any = ours.LinearAdapter(DIM, 3)
    mine.setup_adapter_strategy(adapter_mixin_strategies.ResidualAddAdapterStrategy(0.5, 0.1))
    assert isinstance(mine.adapter_strategy, adapter_mixin_strategies.ResidualAddAdapterStrategy)


def test_options_are_those_of_nemos_classes() -> None:
    for name, options in NEMO_OPTIONS.items():
        cls = getattr(adapter_modules, name, None) or getattr(adapter_mixin_strategies, name)
        assert tuple(accepted_keywords(cls) or ()) == options


def test_state_dicts_have_the_same_keys() -> None:
    for position in ("pre", "post"):
        a = adapter_modules.LinearAdapter(DIM, 3, norm_position=position)
        b = ours.LinearAdapter(DIM, 3, norm_position=position)
        b.load_state_dict(a.state_dict())
        assert list(a.state_dict()) == list(b.state_dict())


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["index"]))
def test_bit_equal_to_nemo_on_this_machine(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(case)
    golden = sys.modules[run.__module__]
    monkeypatch.setattr(golden, "LinearAdapter", adapter_modules.LinearAdapter)
    configs = {
        "residual_add": adapter_mixin_strategies.ResidualAddAdapterStrategyConfig,
        "return_result": adapter_mixin_strategies.ReturnResultAdapterStrategyConfig,
    }
    monkeypatch.setattr(golden, "STRATEGIES", configs)
    found = run(case)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)


def train(hosts: list[Any], x: Tensor, settings: dict[str, Any]) -> list[Tensor]:
    """Twelve steps of AdamW through a chain of hosts: every loss, then every weight."""
    for host in hosts:
        host.add_adapter("an4", settings)
        host.train()
        for adapter in host.adapter_layer.values():  # as harness/training/loop.py does
            adapter.adapter_strategy.generator = torch.Generator().manual_seed(99)
    model = nn.ModuleList(hosts)
    randomize(model, seed=2)
    optimizer, found = torch.optim.AdamW(model.parameters(), lr=0.05), []
    torch.manual_seed(5)
    for _ in range(12):
        result = x
        for host in hosts:
            result = host(result)
        auxiliary = collect_adapter_losses(model)
        assert auxiliary is not None
        loss = (result - 1).square().mean() + auxiliary
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        found.append(loss.detach())
    return [*found, *(weight.detach() for weight in model.parameters())]


@pytest.mark.usefixtures("allowed")
def test_global_noise_gives_nemos_own_training(x: Tensor) -> None:
    """The same seed, adapters with dropout: the same losses and weights to the bit; our own generator gives others."""

    def settings(linear: str, residual: str, **options: Any) -> dict[str, Any]:
        return {**config(linear, residual, **options), "dropout": 0.2}

    nemos = train([NemoHost(), NemoHost(), NemoHost()], x, settings(NEMO_LINEAR, NEMO_RESIDUAL))
    ours_settings = settings(OUR_LINEAR, OUR_RESIDUAL, noise="global")
    mine = train([InsertionPoint(DIM) for _ in range(3)], x, ours_settings)
    assert all(torch.equal(found, expected) for found, expected in zip(mine, nemos, strict=True))
    other = train([InsertionPoint(DIM) for _ in range(3)], x, settings(OUR_LINEAR, OUR_RESIDUAL))
    assert not all(torch.equal(found, expected) for found, expected in zip(other, nemos, strict=True))


def test_global_noise_gives_nemos_own_trial(make_config: MakeConfig, resources: Resources) -> None:
    """A trial of ours with NeMo's strategy in it, and with ours: losses, scores and weights to the bit."""
    found = []
    for name, options in ((NEMO_RESIDUAL, {}), (OUR_RESIDUAL, {"noise": "global"}), (OUR_RESIDUAL, {})):
        strategy = {"_target_": name, "stochastic_depth": 0.4, "l2_lambda": 0.01, **options}
        trial = make_config().model_copy(
            update={"adapter": {"_target_": OUR_LINEAR, "dim": 4, "dropout": 0.1, "adapter_strategy": strategy}}
        )
        entries: list[dict[str, Any]] = []
        outcome = Trial(trial, resources, report=entries.append).run()
        found.append(([entry["metrics"] for entry in entries], outcome.adapted.model.state_dict()))
    (nemos, theirs), (mine, same), (_, other) = found
    assert mine == nemos
    assert all(torch.equal(same[name], theirs[name]) for name in theirs)
    assert not all(torch.equal(other[name], theirs[name]) for name in theirs)


def test_a_file_saved_by_nemo_loads(tmp_path: Path, x: Tensor) -> None:
    model: Any = NemoModel()
    for name in ("an4", "an4_v2"):  # NeMo's substring match puts both into the file of the first
        model.add_adapter(f"encoder:{name}", config(NEMO_LINEAR, NEMO_RESIDUAL))
    randomize(model)
    path = tmp_path / "an4.pt"
    model.save_adapters(str(path), name="encoder:an4")
    assert list(read_nemo_adapters(path)) == ["an4"]
    mine = TinyModel()
    assert mine.load_adapters(path) == ["an4"]
    assert isinstance(mine, AdapterModelMixin)
    hosts: list[AdapterModuleMixin] = list(mine.hosts_of_adapter("an4").values())
    for host, theirs in zip(hosts, model.encoder, strict=True):
        loaded = host.get_adapter_module("an4")
        assert isinstance(loaded, ours.LinearAdapter)
        assert torch.equal(loaded(x), theirs.get_adapter_module("an4")(x))


NAMES = ("an4", "an4_v2", "v2", "encoder_an4")  # some contain others


def same_states(one: Any, other: Any, name: str) -> bool:
    """Whether two adapters have the same weights, bit for bit, by the same names."""
    a, b = one.get_adapter_module(name).state_dict(), other.get_adapter_module(name).state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
@pytest.mark.parametrize("converted", [False, True], ids=["saved", "converted"])
def test_nemo_loads_a_file_of_ours(converted: bool, tmp_path: Path, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """By NeMo's own mixin, into its own hosts and classes; and the file that it then saves loads here again."""
    mine = TinyModel()
    for number, name in enumerate(NAMES):
        strategy = {"_target_": OUR_RESIDUAL, "stochastic_depth": 0.5, "l2_lambda": 0.1 * number, "noise": "global"}
        position = "post" if number % 2 else "pre"
        cfg = {"_target_": OUR_LINEAR, "dim": 2 + number, "norm_position": position, "adapter_strategy": strategy}
        mine.add_adapter(f"encoder:{name}", cfg)
    randomize(mine, seed=7)
    mine.set_enabled_adapters("v2", enabled=False)
    path = tmp_path / "ours.pt"
    if converted:
        mine.save_adapters(tmp_path / "ours")
        names, _ = convert_adapters(tmp_path / "ours.safetensors", path)
        assert names == list(NAMES)
    else:
        assert mine.save_adapters(path) == [path] and [*tmp_path.iterdir()] == [path]

    theirs: Any = NemoModel()
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # NeMo reads its own files with this alone
    theirs.load_adapters(str(path))
    hosts: list[Any] = list(mine.adapter_hosts("encoder").values())
    for number, name in enumerate(NAMES):
        for host, nemos in zip(hosts, theirs.encoder, strict=True):
            adapter = nemos.get_adapter_module(name)
            assert type(adapter) is adapter_modules.LinearAdapter
            assert type(adapter.adapter_strategy) is adapter_mixin_strategies.ResidualAddAdapterStrategy
            assert (adapter.adapter_strategy.stochastic_depth, adapter.adapter_strategy.l2_lambda) == (
                0.5,
                0.1 * number,
            )
            assert same_states(host, nemos, name)
    assert theirs.encoder[0].get_enabled_adapters() == ["an4", "an4_v2", "encoder_an4"]
    for host, nemos in zip(hosts, theirs.eval().encoder, strict=True):
        assert torch.equal(host.eval()(x), nemos(x)) and not torch.equal(nemos(x), x)

    theirs.save_adapters(str(tmp_path / "theirs.pt"))
    convert_adapters(tmp_path / "theirs.pt", tmp_path / "back.safetensors")
    back = TinyModel()
    assert back.load_adapters(tmp_path / "back.safetensors", allow_other_base=True) == list(NAMES)
    for name in NAMES:
        found = back.hosts_of_adapter(name)
        assert list(found) == ["encoder.0.point", "encoder.1.point"]
        assert all(same_states(a, b, name) for a, b in zip(hosts, found.values(), strict=True))
    assert back.get_enabled_adapters() == ["an4", "an4_v2", "encoder_an4"]


@pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
@pytest.mark.usefixtures("allowed")
def test_a_class_that_nemo_can_import_is_written_where_it_is_allowed(
    tmp_path: Path, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours with an option that NeMo's class lacks, under its own name: NeMo imports it after `allow_in_nemo`."""
    mine = TinyModel()
    strategy = {"_target_": target_of(ours.ResidualAddAdapterStrategy), "drop": "row"}
    mine.add_adapter("encoder:an4", {"_target_": OUR_LINEAR, "dim": 3, "adapter_strategy": strategy})
    randomize(mine)
    mine.save_adapters(tmp_path / "an4.pt", allow=[ours.ResidualAddAdapterStrategy])
    theirs: Any = NemoModel()
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    theirs.load_adapters(str(tmp_path / "an4.pt"))
    host = mine.adapter_hosts("encoder")["encoder.0.point"]
    assert theirs.encoder[0].get_adapter_module("an4").adapter_strategy.drop == "row"
    assert same_states(host, theirs.encoder[0], "an4")
