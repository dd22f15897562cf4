"""From a base model to what learns: which weights, which layers, and what is refused."""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from backbones_tests.tiny_whisper import tiny_whisper
from safetensors.torch import load_file
from torch import Tensor, nn
from trial_configs import MakeConfig

from harness.adapters import AdapterModuleUtil
from harness.backbones.model import TaskModel
from harness.backbones.whisper import WindowedWhisperEncoder
from harness.backbones.whisper_decoder import WhisperDecoderHead
from harness.config.training import L2SpSettings
from harness.config.trees import merge
from harness.config.trial import TrialConfig
from harness.engines.cut.cut import learning_in_layers
from harness.engines.packed.packable import why_not_packable
from harness.errors import UserError
from harness.training.adapting import adapt, chosen_modules, chosen_places
from harness.training.optim import part_of
from harness.training.pulls import WeightPull
from harness.training.resources import Resources
from harness.training.state import ChangingState

POINTS = ["encoder.layers.0.insertion", "encoder.layers.1.insertion"]
LINEAR = {"_target_": "harness.adapters.LinearAdapter", "dim": 4}
ADAPTER_SIZE = 2 * 16 * 4 + 2 * 16  # two projections of 16 x 4 and a layer norm


@pytest.fixture
def base(make_config: MakeConfig, resources: Resources) -> TaskModel:
    return copy.deepcopy(resources.domains(make_config()).backbone.model)


@pytest.mark.parametrize(
    "arm, changes, learns",
    [
        ("frozen", {}, set()),
        ("head_only", {}, {"head"}),
        ("residual_add", {}, {"adapters"}),
        ("residual_add", {"train": "adapters_and_head"}, {"adapters", "head"}),
        ("head_only", {"train": "layers_and_head", "backbone": {"layers": [1]}}, {"head", "layer 1"}),
        ("head_only", {"train": "full"}, {"head", "encoder"}),
    ],
)
def test_exactly_the_named_weights_learn(
    arm: str, changes: dict[str, Any], learns: set[str], base: TaskModel, make_config: MakeConfig
) -> None:
    num_base = sum(weight.numel() for weight in base.parameters())
    adapted = adapt(base, make_config(arm, **changes))
    for name, weight in base.named_parameters():
        group = "adapters" if ".adapter_layer." in name else name.partition(".")[0]
        groups = {group, "layer 1" if "layers.1." in name else group}
        assert weight.requires_grad == bool(groups & learns), name
    layer = sum(weight.numel() for weight in base.encoder.layers[1].parameters())
    sizes = {"layer 1": layer, "head": 3 * 16 + 3, "adapters": 2 * ADAPTER_SIZE, "encoder": num_base - 3 * 16 - 3}
    assert adapted.num_trainable == sum(sizes[group] for group in learns) and adapted.num_base == num_base
    names = [name.removeprefix("encoder.") for name in POINTS] if "adapters" in learns else []
    assert adapted.adapters == dict.fromkeys(names, ADAPTER_SIZE)
    assert adapted.restorable == (learns <= {"adapters"})


def test_a_decoders_layers_learn_with_the_output_layer(make_config: MakeConfig) -> None:
    """They are numbered behind the encoder's, and no layers of it."""
    encoder = WindowedWhisperEncoder(tiny_whisper(max_source_positions=20).get_encoder(), 2)
    trial: dict[str, Any] = {"train": "layers_and_head", "adapter": None}
    assert chosen_modules(encoder, make_config(**trial)) == list(encoder.layers)
    assert chosen_modules(encoder, make_config(**trial, backbone={"layers": [1]})) == [encoder.layers[1]]
    with pytest.raises(UserError, match=r"^backbone\.layers: layer 3 is not the encoder's, which has layers 0 to 1;"):
        chosen_modules(encoder, make_config(**trial, backbone={"layers": {"from": 1}}))


@pytest.mark.parametrize("arm, changes", [("head_only", {"train": "full"}), ("residual_add", {})])
def test_weights_of_adapters_are_told_by_their_hosts(
    arm: str, changes: dict[str, Any], base: TaskModel, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Layers of wav2vec2 (MMS) have an `adapter_layer` of the base model's own: no name tells it from ours."""
    theirs = base.encoder.layers[1].adapter_layer = nn.Linear(16, 16)
    adapted = adapt(base, make_config(arm, **changes))
    learnt = {name: weight for name, weight in base.named_parameters() if weight.requires_grad}
    own = {id(weight) for weight in theirs.parameters()}
    assert (own <= set(map(id, learnt.values()))) == (adapted.config.train == "full")
    adapted.save(tmp_path, "fingerprint")
    saved = load_file(tmp_path / "weights.safetensors") if adapted.config.train == "full" else {}
    assert saved.keys() == (learnt.keys() if adapted.config.train == "full" else set())
    adapters = base.learnt_with_adapters()
    assert not own & adapters.keys()
    assert {part_of(pair, adapters) for pair in learnt.items()} == ({"head", "encoder"} if saved else {"adapters"})
    pull = WeightPull(list(learnt.items()), L2SpSettings(alpha=1.0), adapters)
    assert len(pull.new) == (0 if saved else len(learnt))
    theirs.requires_grad_(True)
    assert learning_in_layers(base) >= 16 * 16 + 16


class HeadWithState(nn.Module):
    """A head that trains otherwise than it scores, and has statistics."""

    def __init__(self, output: nn.Linear) -> None:
        super().__init__()
        self.output, self.norm, self.dropout = output, nn.BatchNorm1d(output.out_features), nn.Dropout(0.5)

    def forward(self, hidden_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        scores: Tensor = self.dropout(self.norm(self.output(hidden_BTD.mean(1))))
        return scores


@pytest.mark.parametrize("train", ["head", "adapters_and_head", "layers_and_head", "adapters", "none"])
def test_a_head_that_learns_is_in_training_mode(
    train: str, base: TaskModel, make_config: MakeConfig, tmp_path: Path
) -> None:
    """And no other; what its BatchNorm learns is saved with it, and a pack, which has no dropout, leaves it alone."""
    base.head = HeadWithState(base.head.output)
    config = make_config("residual_add" if "adapters" in train else "head_only", train=train)
    adapted, learns = adapt(base, config), "head" in train
    base.train()
    assert {module.training for module in base.head.modules()} == {learns}
    assert not base.encoder.layers[0].training or train == "layers_and_head"
    before = base.head.norm.running_mean.clone()
    base(torch.tensor([[3, 1, 4], [2, 5, 0]]), torch.tensor([3, 2]))
    assert torch.equal(base.head.norm.running_mean, before) != learns
    assert ("head.norm.running_mean" in ChangingState(base).take().tensors) == learns
    adapted.save(tmp_path, "fingerprint")
    path = tmp_path / "weights.safetensors"
    assert ("head.norm.running_mean" in (load_file(path) if path.exists() else {})) == learns
    base.eval()
    assert not any(module.training for module in base.modules())


def test_no_pack_has_a_head_with_dropout(base: TaskModel, make_config: MakeConfig) -> None:
    base.head.dropout = nn.Dropout(0.5)
    adapt(base, config := make_config("residual_add", train="adapters_and_head"))
    why = why_not_packable(base, config.loop, config.optim)
    assert why == "the head is trained, and its dropout draws from torch's global generator"


def test_shares_of_the_layers_learn_with_the_adapters(base: TaskModel, make_config: MakeConfig) -> None:
    """To the optimizer's groups and to L2-SP: they are new, and in the group of the adapters."""
    adapt(base, make_config(backbone={"points": "towards_head"}))
    learnt, adapters = [pair for pair in base.named_parameters() if pair[1].requires_grad], base.learnt_with_adapters()
    assert "encoder.layer_shares.logits" in dict(learnt)
    assert {part_of(pair, adapters) for pair in learnt} == {"adapters"}
    assert len(WeightPull(learnt, L2SpSettings(alpha=1.0), adapters).new) == len(learnt)


ACROSS: dict[str, dict[str, Any]] = {
    "TinyAttention": {"_target_": "harness.adapters.TinyAttention", "dim": 2},
    "Convolution": {"_target_": "harness.adapters.Convolution", "dim": 2},
}
HIDDEN = (
    r"{}: adapter `{}`: {} reads across steps, but this place is in a decoder, where the later steps are the tokens"
)


@pytest.mark.parametrize("kind", ACROSS)
@pytest.mark.parametrize(
    ("settings_of", "place", "name"),
    [
        (lambda own: {"adapter": own}, "adapter", "adapted"),
        (lambda own: {"adapter": {"_target_": "harness.adapters.Gated", "adapter": own}}, "adapter", "adapted"),
        (
            lambda own: {
                "adapter": None,
                "adapters": {"first": LINEAR, "second": {**own, "in_chain": False, "trainable": False}},
            },
            "adapters.second",
            "second",
        ),
    ],
)
def test_no_adapter_reads_the_tokens_that_a_decoder_is_to_write(
    kind: str, settings_of: Any, place: str, name: str, make_config: MakeConfig
) -> None:
    """In training the right tokens are there to be read; when the decoder writes, none is."""
    whisper = tiny_whisper(max_source_positions=20)
    encoder = WindowedWhisperEncoder(whisper.get_encoder(), 2)

    def make_head(dim: int, num_symbols: int) -> nn.Module:
        return WhisperDecoderHead(whisper.get_decoder(), encoder.decoder_points, (51, 52), 50, (), ())

    model = TaskModel(encoder, make_head, 60).eval()
    settings = {**make_config().model_dump(by_alias=True), **settings_of(ACROSS[kind])}
    of_encoder = TrialConfig.model_validate(merge(settings, {"backbone": {"layers": [0, 1]}}))
    assert adapt(copy.deepcopy(model), of_encoder).adapters
    with pytest.raises(UserError, match=f"^{HIDDEN.format(place, name, kind)}"):
        adapt(model, TrialConfig.model_validate(settings))


def test_first_weights_depend_on_the_trials_seed(base: TaskModel, make_config: MakeConfig) -> None:
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    found = []
    for seed in (0, 0, 1):
        model = copy.deepcopy(base)
        adapt(model, make_config(seed=seed))
        found.append({name: weight for name, weight in model.named_parameters() if ".adapter_layer." in name})
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(found[0][name], weight) for name, weight in found[1].items())
    down = f"{POINTS[0]}.adapter_layer.adapted.module.1.weight"
    assert not torch.equal(found[0][down], found[2][down])
    assert not torch.equal(found[0][down], found[0][down.replace("layers.0", "layers.1")])


def test_a_layer_gets_the_same_first_weights_in_either_precision(base: TaskModel, make_config: MakeConfig) -> None:
    single, double = copy.deepcopy(base), copy.deepcopy(base).double()
    adapt(single, make_config())
    adapt(double, make_config(loop={"precision": "float64"}))
    for name, weight in single.named_parameters():
        twin = double.get_parameter(name)
        assert twin.dtype == torch.float64 and torch.equal(twin, weight.double())


@pytest.mark.parametrize("layers, chosen", [("all", [0, 1]), ([1], [1]), ([1, 0], [0, 1]), ({"from": 1}, [1])])
def test_layers_are_chosen(layers: Any, chosen: list[int], base: TaskModel, make_config: MakeConfig) -> None:
    adapted = adapt(base, make_config(backbone={"layers": layers}))
    assert list(adapted.adapters) == [POINTS[number].removeprefix("encoder.") for number in chosen]


@pytest.mark.parametrize("layers, asked", [([2], r"\[2\]"), ({"from": 2}, r"\{from: 2\}"), ([], r"\[\]")])
def test_layers_that_are_not_there(layers: Any, asked: str, base: TaskModel, make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=rf"^backbone\.layers: {asked} matches no layer; .* has layers 0 to 1$"):
        adapt(base, make_config(backbone={"layers": layers}))


def test_every_insertion_point_knows_its_depth(base: TaskModel, make_config: MakeConfig) -> None:
    adapt(base, make_config(backbone={"layers": [1]}))
    assert [point.depth_fraction for point in base.encoder.insertion_points.values()] == [0.5, 1.0]


INSIDE = ["after_attention.0", "after_feed_forward.0", "after_attention.1", "after_feed_forward.1"]
BESIDE = [f"beside.layers/{number}/attention/out_proj" for number in (0, 1)]


@pytest.mark.parametrize(
    "backbone, chosen",
    [
        ({"points": "houlsby"}, INSIDE),
        ({"points": ["after_feed_forward", "after_attention"], "layers": {"from": 1}}, INSIDE[2:]),
        ({"points": ["out_proj"]}, BESIDE),
        ({"points": ["behind_layer", "towards_head"]}, [*POINTS, "towards_head.0", "towards_head.1"]),
        ({"points": [{"behind": "layers.1.feed_forward"}]}, ["behind.layers/1/feed_forward"]),
    ],
)
def test_places_are_chosen(backbone: Any, chosen: list[str], base: TaskModel, make_config: MakeConfig) -> None:
    """Adapters where they are asked for, of the right depth; the base's weights keep their names and values."""
    state = {name: weight.clone() for name, weight in base.state_dict().items()}
    adapted = adapt(base, make_config(backbone=backbone))
    assert adapted.adapters == {name.removeprefix("encoder."): ADAPTER_SIZE for name in chosen}
    shares = 2 if "towards_head.0" in chosen else 0
    assert adapted.num_trainable == len(chosen) * ADAPTER_SIZE + shares
    for name, point in base.encoder.insertion_points.items():
        assert point.depth_fraction == (1.0 if "1" in name else 0.5)
    kept = {name: weight for name, weight in base.state_dict().items() if "adapter_layer" not in name}
    assert kept.keys() - state.keys() == ({"encoder.layer_shares.logits"} if shares else set())
    assert all(torch.equal(kept[name], weight) for name, weight in state.items())


@pytest.mark.parametrize(
    "backbone, expected",
    [
        ({"points": ["in_prj"]}, r"^backbone\.points: 'in_prj' matches no module in the layers; nearest: in_proj"),
        (
            {"points": ["layers.0.feed_forward"], "layers": [1]},
            r"^backbone\.points: none is in the layers that backbone\.layers chooses \(1\); .* in layers 0$",
        ),
        ({"points": ["in_proj"]}, r"^adapter: .*LinearAdapter gives the width .* read 16 and be merged with 48$"),
    ],
)
def test_places_that_are_not_there(backbone: Any, expected: str, base: TaskModel, make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=expected):
        adapt(base, make_config(backbone=backbone))


def test_a_strategy_that_leaves_rows_out_works_behind_a_module_alone(base: TaskModel, make_config: MakeConfig) -> None:
    skips = {"adapter_strategy": {"skip_dropped": True}}
    adapt(copy.deepcopy(base), make_config(adapter=skips, backbone={"points": "houlsby"}))
    with pytest.raises(UserError, match=r"^adapter\.adapter_strategy\.skip_dropped: true: beside\.layers/0/"):
        adapt(base, make_config(adapter=skips, backbone={"points": ["out_proj"]}))


def test_a_trial_without_adapters_has_the_usual_points(base: TaskModel, make_config: MakeConfig) -> None:
    adapted = adapt(base, make_config("head_only", backbone={"points": ["no_such_module"]}))
    assert [*adapted.model.encoder.insertion_points] == [name.removeprefix("encoder.") for name in POINTS]


class Broken(nn.Module, AdapterModuleUtil):
    """An adapter that gives its input to whatever `how` names."""

    def __init__(self, in_features: int, how: str) -> None:
        super().__init__()
        if how == "build":
            raise RuntimeError("cannot be\nbuilt")
        self.how = how
        self.linear = nn.Linear(in_features, in_features) if how != "no weights" else nn.Identity()
        self.setup_adapter_strategy({"_target_": "harness.adapters.ReturnResultAdapterStrategy"})

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "fails":
            raise KeyError("nothing")
        if self.how == "in place":
            x += self.linear(x)
        return x.mean(1) if self.how == "shape" else x


@pytest.fixture
def users_module() -> Iterator[str]:
    """The import path of `Broken`, as a module of the user's own."""
    module = types.ModuleType("mybrokenadapters")
    module.Broken = Broken  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    yield f"{module.__name__}.Broken"
    del sys.modules[module.__name__]


@pytest.mark.parametrize(
    "how, expected",
    [
        ("no weights", r"^adapter: mybrokenadapters\.Broken has no weights, so the trial would train nothing$"),
        ("shape", r"^adapter: mybrokenadapters\.Broken .*\[2, 16\].*\[2, 3, 16\]"),
        ("unused", r"^adapter: .*no weight of mybrokenadapters\.Broken, so the trial would train"),
        ("fails", r"^adapter: mybrokenadapters\.Broken fails on a \[2, 3, 16\] input: KeyError: 'nothing'$"),
        ("in place", r"^adapter: mybrokenadapters\.Broken changes its input in place, .*; write x = x \+ y "),
        ("build", r"^adapter: .*cannot be"),
    ],
)
def test_a_users_adapter_that_cannot_work_is_told(
    how: str, expected: str, users_module: str, base: TaskModel, make_config: MakeConfig
) -> None:
    config = make_config(adapter={"_target_": users_module, "how": how})
    with pytest.raises(UserError, match=expected):
        adapt(base, config)


def test_an_adapter_that_would_never_run_is_told(base: TaskModel, make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=r"^adapter: enabled: false: the adapter would never run"):
        adapt(base, make_config(adapter={"enabled": False}))


def test_an_adapter_that_does_not_exist_is_told(base: TaskModel, make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=r"^adapter: .*harness\.adapters\.LinearAdaptor"):
        adapt(base, make_config(adapter={"_target_": "harness.adapters.LinearAdaptor"}))
    with pytest.raises(UserError, match=r"^adapter: .*in_features is 17, but the host is 16 wide"):
        adapt(base, make_config(adapter={"in_features": 17}))


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (
            {"_target_": "harness.adapters.Nothing"},
            r"adapter\.adapter_strategy: cannot find `harness\.adapters\.Nothing`",
        ),
        (
            {"_target_": "harness.adapters.ResidualAddAdapterStrategy", "stochastic_depth": 2},
            r"adapter\.adapter_strategy: harness\.adapters\.ResidualAddAdapterStrategy: ValueError: Stochastic depth",
        ),
        (
            "harness.adapters.ReturnResultAdapterStrategy",
            r"adapter: .* invalid : (.*); write \{_target_: harness\.adapters\.ReturnResultAdapterStrategy\}$",
        ),
    ],
)
def test_a_strategy_that_cannot_be_built_is_told_with_its_place(
    strategy: Any, expected: str, base: TaskModel, make_config: MakeConfig
) -> None:
    with pytest.raises(UserError, match=f"^{expected}"):
        adapt(base, make_config(adapter={"adapter_strategy": strategy}))


@torch.no_grad()
def test_switching_off_and_on(base: TaskModel, make_config: MakeConfig) -> None:
    inputs = torch.arange(12).reshape(2, 6), torch.tensor([6, 3])
    expected = base(*inputs)[0]
    adapted = adapt(base, make_config())
    for name, weight in base.named_parameters():
        if name.endswith("module.3.weight"):
            weight.add_(0.5)
    changed = base(*inputs)[0]
    assert not torch.equal(changed, expected)
    with pytest.raises(RuntimeError, match="inside"), adapted.switched_off():
        assert torch.equal(base(*inputs)[0], expected)
        raise RuntimeError("inside")
    assert torch.equal(base(*inputs)[0], changed)


HEAD = {"head.output.weight", "head.output.bias"}
SHARES = {"encoder.layer_shares.logits"}


@pytest.mark.parametrize(
    "train, points, files, others",
    [
        ("adapters", "behind_layer", {"adapter"}, set()),
        ("adapters_and_head", "houlsby", {"adapter", "weights"}, HEAD),
        ("head", "behind_layer", {"weights"}, HEAD),
        ("adapters", ["out_proj"], {"adapter"}, set()),
        ("adapters", "towards_head", {"adapter", "weights"}, SHARES),
    ],
)
def test_what_was_trained_is_saved(
    train: str, points: Any, files: set[str], others: set[str], base: TaskModel, make_config: MakeConfig, tmp_path: Any
) -> None:
    twin = copy.deepcopy(base)
    arm = "head_only" if train == "head" else "residual_add"
    config = make_config(arm, train=train, backbone={"points": points})
    adapted = adapt(base, config)
    with torch.no_grad():
        for number, weight in enumerate(w for w in base.parameters() if w.requires_grad):
            weight.add_(0.01 * number + 0.1)
    adapted.save(tmp_path, "fingerprint")
    assert {path.stem for path in tmp_path.iterdir()} == files
    twin.encoder.put_points(chosen_places(twin.encoder, config))
    if "adapter" in files:
        twin.load_adapters(tmp_path / "adapter", base_fingerprint="fingerprint")
    if "weights" in files:
        saved = load_file(tmp_path / "weights.safetensors")
        assert saved.keys() == others
        twin.load_state_dict(saved, strict=False)
    state = twin.state_dict()
    assert state.keys() == base.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in base.state_dict().items())


def test_what_follows_from_a_budget_is_told(base: TaskModel, make_config: MakeConfig) -> None:
    """Two places of 2 * 16 * H + 2 * 16 weights: 64 H + 64."""
    adapted = adapt(copy.deepcopy(base), make_config(adapter={"dim": {"budget": 300}}))
    assert adapted.adapters == dict.fromkeys((name.removeprefix("encoder.") for name in POINTS), 2 * 16 * 3 + 2 * 16)
    told = "adapter (harness.adapters.LinearAdapter): dim: {budget: 300}: the width is 3; 256 weights in 2 places"
    assert adapted.told == [told]
    with pytest.raises(
        UserError, match=r"^adapter: dim: {budget: 100}: no width keeps it; with a width of 1 there are"
    ):
        adapt(base, make_config(adapter={"dim": {"budget": 100}}))
