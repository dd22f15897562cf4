"""Several adapters in a trial: their order, which learn, which run, and weights from files."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import Tensor, nn
from trial_configs import MakeConfig

from harness.adapters import LinearAdapter
from harness.adapters.freezing import is_frozen
from harness.adapters.nemo_files import NEMO_TARGETS
from harness.backbones.model import TaskModel
from harness.config.adapters import with_digests
from harness.config.execution import Execution
from harness.config.places import PlacedText
from harness.config.trial import TrialConfig, trial_id_of
from harness.engines.registry import Engines
from harness.errors import TrialError, UserError
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun
from harness.training.adapting import Adapted, adapt
from harness.training.engine import PLAIN_ENGINE, Engine
from harness.training.resources import Resources
from harness.training.run_trial import run_trial
from harness.training.taking import Sources

RESIDUAL = {"_target_": "harness.adapters.ResidualAddAdapterStrategy"}
LINEAR = {"_target_": "harness.adapters.LinearAdapter", "dim": 4, "adapter_strategy": RESIDUAL}
NOISY = {**LINEAR, "dropout": 0.4, "adapter_strategy": {**RESIDUAL, "stochastic_depth": 0.5, "l2_lambda": 0.1}}


class Sibling(nn.Module):
    """Gives half of what another adapter, which is not in the chain, makes of the input, times a weight that learns."""

    def __init__(self, in_features: int, of: str, adapter_strategy: Any = None) -> None:
        super().__init__()
        self.of, self.gate = of, nn.Parameter(torch.full((in_features,), 0.5))
        self.adapter_strategy = self._merge

    def _merge(self, input: Tensor, adapter: nn.Module, *, module: Any) -> Tensor:
        return input + self.gate * module.adapter_layer[self.of](input)

    def forward(self, x: Tensor) -> Tensor:
        return x


def chain(make_config: MakeConfig, adapters: dict[str, Any], **changes: Any) -> TrialConfig:
    plain = make_config(adapter=None, adapters=None, train="head", **changes)
    content = {**plain.model_dump(by_alias=True), "train": "adapters", "adapters": adapters}
    return TrialConfig.model_validate(with_digests(content, "here"))


def train(config: TrialConfig, resources: Resources, folder: Path, engine: Engine = PLAIN_ENGINE) -> TrialFolder:
    trial = TrialFolder(folder / config.trial_id)
    run = TrialRun(config.trial_id, "chains", "arm", config.seed, "confirm")
    summary = run_trial(config, run, trial, resources, engine=engine)
    assert summary.state == "complete", summary.message
    return trial


@pytest.fixture
def base(make_config: MakeConfig, resources: Resources) -> TaskModel:
    return copy.deepcopy(resources.domains(make_config()).backbone.model)


@pytest.fixture(scope="module")
def source(make_config: MakeConfig, resources: Resources, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter file of a trained trial."""
    config = make_config(adapter=NOISY, optim={"lr": 0.05})
    return train(config, resources, tmp_path_factory.mktemp("source")).path / "adapter.safetensors"


def randomised(adapted: Adapted) -> dict[str, LinearAdapter]:
    """The adapters of the lowest layer, all weights random: the first ones would give nothing."""
    generator = torch.Generator().manual_seed(0)
    layer: Any = next(iter(adapted.model.encoder.insertion_points.values())).adapter_layer
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return dict(layer.items())


def test_adapters_run_one_after_another_in_the_order_of_the_file(base: TaskModel, make_config: MakeConfig) -> None:
    config = chain(make_config, {"two": LINEAR, "one": {**LINEAR, "dim": 3}})
    adapted = adapt(base, config)
    adapters = randomised(adapted)
    x = torch.randn(2, 3, 16)
    middle = x + adapters["two"](x)
    point = next(iter(base.encoder.insertion_points.values()))
    assert torch.allclose(point.eval()(x), middle + adapters["one"](middle))
    assert adapted.chain == ("two", "one")
    sizes = [2 * 16 * dim + 2 * 16 for dim in (4, 3)]
    assert list(adapted.adapters.values()) == [sum(sizes)] * 2 and adapted.num_trainable == 2 * sum(sizes)
    other = chain(make_config, {"one": {**LINEAR, "dim": 3}, "two": LINEAR})
    assert other.trial_id != config.trial_id  # another order is another trial


def test_a_frozen_adapter_keeps_its_weights_and_runs_without_noise(base: TaskModel, make_config: MakeConfig) -> None:
    config = chain(make_config, {"source": {**NOISY, "trainable": False}, "target": LINEAR})
    adapted = adapt(base, config)
    adapters = randomised(adapted)
    assert is_frozen(adapters["source"]) and not any(w.requires_grad for w in adapters["source"].parameters())
    assert list(adapted.adapters.values()) == [2 * 16 * 4 + 2 * 16] * 2
    assert adapted.num_trainable == sum(adapted.adapters.values())
    point = next(iter(base.train().encoder.insertion_points.values()))
    x = torch.randn(2, 3, 16)
    assert point.training
    first = x + adapters["source"].module(x)
    assert torch.allclose(point(x), first + adapters["target"](first)) and base.collect_adapter_losses() is None
    assert point.training


def test_what_is_not_in_the_chain_runs_only_where_a_strategy_reaches_it(
    base: TaskModel, make_config: MakeConfig
) -> None:
    reads = {"_target_": f"{__name__}.Sibling", "of": "source"}
    adapters = {"source": {**LINEAR, "trainable": False, "in_chain": False}, "fusion": reads}
    adapted = adapt(base, chain(make_config, adapters))
    found = randomised(adapted)
    x = torch.randn(2, 3, 16)
    point = next(iter(base.encoder.insertion_points.values()))
    assert torch.allclose(point.eval()(x), x + found["fusion"].gate * found["source"](x))
    with adapted.switched_off():
        assert point(x) is x
    assert point.get_enabled_adapters() == ["fusion"]  # the other one stays as it was


def test_adapters_start_alike_whatever_stands_beside_them(base: TaskModel, make_config: MakeConfig) -> None:
    both, alone = copy.deepcopy(base), copy.deepcopy(base)
    adapt(both, chain(make_config, {"source": LINEAR, "target": LINEAR}))
    adapt(alone, chain(make_config, {"target": LINEAR}))
    name = "encoder.layers.0.insertion.adapter_layer.target.module.1.weight"
    assert torch.equal(both.get_parameter(name), alone.get_parameter(name))
    assert not torch.equal(both.get_parameter(name), both.get_parameter(name.replace("target", "source")))


def test_weights_come_from_a_file(source: Path, base: TaskModel, make_config: MakeConfig, resources: Resources) -> None:
    taken = {"from": {"file": str(source)}, "trainable": False}
    config = chain(make_config, {"source": taken, "target": LINEAR})
    fingerprint = resources.domains(config).backbone.fingerprint
    adapt(base, config, Sources(fingerprint))
    saved = load_file(source)
    for layer in range(2):
        path = f"encoder.layers.{layer}.insertion"
        adapter: Any = base.get_submodule(f"{path}.adapter_layer.source")
        assert adapter.adapter_strategy.stochastic_depth == 0.5  # class and options are the file's
        for key, value in adapter.state_dict().items():
            assert torch.equal(value, saved[f"adapted/{path}/{key}"])
    with pytest.raises(UserError, match=r"^adapters\.source: .*adapter\.safetensors: trained on another base model"):
        adapt(copy.deepcopy(resources.domains(config).backbone.model), config, Sources("0" * 64))


def test_weights_come_from_a_file_of_nemo(tmp_path: Path, base: TaskModel, make_config: MakeConfig) -> None:
    other = copy.deepcopy(base)
    states = []
    for _ in range(2):
        adapter = LinearAdapter(16, 4)
        adapter.module[3].weight = nn.Parameter(torch.randn(16, 4))
        states.append({f"an4.{key}": value for key, value in adapter.state_dict().items()})
    config = {"_target_": next(iter(NEMO_TARGETS)), "in_features": 16, "dim": 4, "enabled": True}
    torch.save({"encoder:an4": states, "__cfg__": OmegaConf.create({"an4": config})}, tmp_path / "nemo.pt")
    taken = {"from": {"file": str(tmp_path / "nemo.pt")}, "trainable": False}
    adapted = adapt(base, chain(make_config, {"source": taken, "target": LINEAR}))
    for layer, point in enumerate(adapted.model.encoder.insertion_points.values()):
        for key, value in point.adapter_layer["source"].state_dict().items():
            assert torch.equal(value, states[layer][f"an4.{key}"])
    with pytest.raises(UserError, match=r"adapters\.source: .*nemo\.pt: adapter `source` has 2 state dicts, but the"):
        adapt(other, chain(make_config, {"source": taken, "target": LINEAR}, backbone={"layers": [1]}))


def test_the_id_follows_the_content_of_a_file_and_not_its_path(
    source: Path, tmp_path: Path, make_config: MakeConfig
) -> None:
    copied, other = tmp_path / "en.safetensors", tmp_path / "de.safetensors"
    copied.write_bytes(source.read_bytes())
    other.write_bytes(source.read_bytes() + b" ")

    def config(file: Any, **more: Any) -> TrialConfig:
        return chain(make_config, {"source": {"from": {"file": file, **more}}})

    known = config(str(source))
    assert config(str(copied)).trial_id == known.trial_id == config(PlacedText("en", tmp_path)).trial_id
    assert config(str(other)).trial_id != known.trial_id
    recorded = known.model_dump(mode="json", by_alias=True)
    assert trial_id_of(recorded) == known.trial_id
    assert recorded["adapters"]["source"]["from"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=r"here: adapters\.source\.from\.file: .*de\.safetensors has SHA-256"):
        config(str(other), sha256=hashlib.sha256(source.read_bytes()).hexdigest())
    with pytest.raises(UserError, match=r"here: adapters\.source\.from\.file: .*fr\.safetensors: cannot be read"):
        config(str(tmp_path / "fr"))


def test_a_file_runs_no_code_that_is_not_allowed(tmp_path: Path, base: TaskModel, make_config: MakeConfig) -> None:
    own = chain(make_config, {"own": {"_target_": f"{__name__}.Sibling", "of": "other"}, "other": LINEAR})
    model = copy.deepcopy(base)
    adapt(model, own)
    model.save_adapters(tmp_path / "own", "own", probe=False)
    kept = {"other": LINEAR, "own": {"from": {"file": str(tmp_path / "own")}}}
    with pytest.raises(UserError, match=r"names the class '.*Sibling', which is not registered"):
        adapt(copy.deepcopy(base), chain(make_config, kept))
    allowed = {"other": LINEAR, "own": {"from": {"file": str(tmp_path / "own"), "allow": [f"{__name__}.Sibling"]}}}
    adapt(base, chain(make_config, allowed))
    assert isinstance(base.get_adapter_module("own"), Sibling)


def test_the_file_has_to_be_about_the_places_of_the_trial(
    source: Path, base: TaskModel, make_config: MakeConfig
) -> None:
    taken = {"source": {"from": {"file": str(source)}}}
    with pytest.raises(UserError, match=r"adapter `adapted` belongs in encoder\.layers\.0\.insertion, but the trial"):
        adapt(base, chain(make_config, taken, backbone={"layers": [1]}))
    named = {"source": {"from": {"file": str(source), "adapter": "en"}}}
    with pytest.raises(UserError, match=r"no adapter named en; choices for from\.adapter: adapted$"):
        adapt(copy.deepcopy(base), chain(make_config, named))


def test_a_chain_trains_alike_behind_the_cut_and_keeps_the_frozen_adapter(
    source: Path, tmp_path: Path, make_config: MakeConfig, resources: Resources
) -> None:
    adapters = {"source": {"from": {"file": str(source)}, "trainable": False}, "target": {**NOISY, "dropout": 0.0}}
    config = chain(make_config, adapters, loop={"precision": "float64"})
    plain = train(config, resources, tmp_path / "plain")
    engines = Engines()
    packed = train(config, resources, tmp_path / "cut", engines.of(Execution(engine="packed", pack=2)))
    record, other = plain.record(), packed.record()
    assert record is not None and other is not None and record.provenance is not None
    assert other.provenance is not None and other.provenance.execution is not None
    why = "a layer has more than one adapter"
    assert other.provenance.execution == {"engine": "cut", "asked": "packed", "why": why}
    assert record.summary.checks["base_restored"].startswith("adapters off")
    weights = [load_file(folder.path / "adapter.safetensors") for folder in (plain, packed)]
    kept = load_file(source)
    for name, weight in weights[0].items():
        assert torch.allclose(weight, weights[1][name], rtol=0, atol=1e-12), name
        if name.startswith("source/"):
            assert torch.equal(weight.float(), kept[name.replace("source/", "adapted/", 1)].float())
    assert record.summary.metrics == other.summary.metrics
    paths = record.provenance.places
    assert paths == {} or "adapters.source.from.file" not in paths  # an absolute path starts nowhere


def test_one_adapter_with_a_name_trains_in_packs(tmp_path: Path, make_config: MakeConfig, resources: Resources) -> None:
    config = chain(make_config, {"only": {**NOISY, "dropout": 0.0}}, loop={"precision": "float64"})
    plain = train(config, resources, tmp_path / "plain")
    packed = train(config, resources, tmp_path / "packed", Engines().of(Execution(engine="packed", pack=2)))
    record = packed.record()
    assert record is not None and record.provenance is not None
    assert record.provenance.execution == {"engine": "packed", "pack": 2}
    weights = [load_file(folder.path / "adapter.safetensors") for folder in (plain, packed)]
    assert all(torch.allclose(w, weights[1][name], rtol=0, atol=1e-12) for name, w in weights[0].items())


def test_a_chain_goes_on_from_its_checkpoint_to_the_bit(
    source: Path, tmp_path: Path, make_config: MakeConfig, resources: Resources
) -> None:
    adapters = {"source": {"from": {"file": str(source)}, "trainable": False}, "target": NOISY}
    config = chain(make_config, adapters)
    whole = train(config, resources, tmp_path / "whole")

    def stop(entry: dict[str, Any]) -> None:
        if entry["epoch"] == 2:
            raise KeyboardInterrupt

    folder = TrialFolder(tmp_path / "stopped" / config.trial_id)
    run = TrialRun(config.trial_id, "chains", "arm", config.seed, "confirm")
    with pytest.raises(KeyboardInterrupt):
        run_trial(config, run, folder, resources, stop)
    run_trial(config, run, folder, resources)
    for name in ("adapter.safetensors", "predictions.jsonl"):
        assert (folder.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_weights_that_are_not_there_fail_the_trial(
    tmp_path: Path, make_config: MakeConfig, resources: Resources
) -> None:
    adapters = {"source": {**LINEAR, "from": {"trial": "0" * 12}, "trainable": False}, "target": LINEAR}
    config = chain(make_config, adapters)
    model = copy.deepcopy(resources.domains(config).backbone.model)
    with pytest.raises(TrialError, match="it takes weights from trial 000000000000, which has not been trained"):
        adapt(model, config, Sources(None, tmp_path))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"adapters": {"a": LINEAR}, "adapter": LINEAR}, "adapter and adapters exclude each other"),
        ({"adapters": {"a": {**LINEAR, "trainable": False}}}, "none of a is trainable"),
        ({"adapters": {"a": {**LINEAR, "in_chain": False}}}, "none of a is in the chain"),
        ({"adapters": {"a": {"dim": 4}}}, r"_target_ is missing .*its keys: dim"),
        ({"adapters": {"a": {**LINEAR, "enabled": False}}}, "write in_chain: false"),
        ({"adapters": {"a": {"dim": 4, "from": {"file": "x"}}}}, "dim: class and options come with the weights"),
        ({"adapters": {"a": {"from": {"arm": "x"}}}}, "arms belong to an experiment"),
        ({"adapters": {"a": {"from": {"file": "x", "arm": "y"}}}}, "exactly one of file, arm and trial"),
        ({"adapters": {"a.b": LINEAR}}, "should match pattern"),
        ({"adapters": {"adapted": LINEAR}}, "the name is that of the only adapter"),
        ({"adapters": {"a": LINEAR}, "train": "head"}, "trains no adapter; set adapters: null"),
        ({"adapters": {}}, "needs an adapter"),
    ],
)
def test_adapters_that_make_no_sense_are_refused(
    changes: dict[str, Any], message: str, make_config: MakeConfig
) -> None:
    content = {**make_config().model_dump(by_alias=True), "adapter": None, **changes}
    with pytest.raises(ValueError, match=message):
        TrialConfig.model_validate(content)


def test_an_adapter_that_nothing_reaches_is_refused(base: TaskModel, make_config: MakeConfig) -> None:
    adapters = {"target": LINEAR, "lost": {**LINEAR, "in_chain": False}}
    with pytest.raises(UserError, match=r"^adapters\.lost: .*no other adapter's strategy reaches it"):
        adapt(base, chain(make_config, adapters))
