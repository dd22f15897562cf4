"""Speech models of transformers, one random model a kind: what each must do to be adapted, cut and compared."""

from __future__ import annotations

import copy
import json
import shutil
from functools import partial
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from pretrained_kinds import SPEECH, WAV2VEC2, write_speech_encoder
from tiny_speech import TinySpeech
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from harness.adapters.freezing import freeze_backbone
from harness.backbones.encoder_settings import SpeechModelSettings
from harness.backbones.encoders import Encoder
from harness.backbones.mms import write_mms_adapter
from harness.backbones.model import CtcHead, TaskModel
from harness.backbones.pretrained import load_transformers_model
from harness.backbones.recipe import load_recipe
from harness.backbones.speech_families import SPEECH_FAMILIES
from harness.backbones.speech_models import SPEECH_MODELS, speech_encoder
from harness.backbones.store import load_backbone
from harness.backbones.two_parts import INPUT
from harness.config.execution import Execution
from harness.config.trial import BackboneSettings, TrialConfig
from harness.data.errors import DataError
from harness.data.model_features import ModelFeatures
from harness.engines.cut.cut import find_cut
from harness.engines.cut.prefixes import Prefixes
from harness.engines.cut.slot_layers import STEPS, Current, slotwise
from harness.engines.registry import Engines
from harness.errors import UserError
from harness.records.provenance import machine
from harness.tasks.ctc import CtcTask
from harness.training.pretrain import pretrain
from harness.training.resources import Resources
from harness.training.trial import Trial

SQUEEZED = ("sew", "sew-d")  # half as many steps at the layers
# Their attention multiplies all items at once, and how a processor sums such a product may depend on how many they are:
# on an AMD EPYC it does, on an Intel Xeon not. The engines try it, and then pack none of them.
MAY_MIX = ("wav2vec2-bert", "wavlm", "wavlm_layer")
SECOND = 16000
SECONDS = (0.71, 0.3, 0.52, 0.01)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("speech")
    return {kind: write_speech_encoder(kind, root) for kind in SPEECH}


def settings_for(folder: Path, **more: Any) -> SpeechModelSettings:
    return SpeechModelSettings.model_validate(
        {"kind": "transformers", "family": "speech", "path": str(folder), "tail_s": 0, **more}
    )


def encoder_of(folder: Path, **more: Any) -> Encoder:
    return speech_encoder(settings_for(folder, **more), folder, with_weights=True).eval()


def clips() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.3 * torch.randn(int(length * SECOND), generator=generator) for length in SECONDS]


def batch_for(folder: Path) -> tuple[list[Tensor], Tensor, Tensor]:
    """Features of clips, the last one too short for a step of most models: each, padded together, and lengths."""
    features = ModelFeatures.of_folder(folder, tail_s=0.0)
    items = [features(clip, SECOND).double() for clip in clips()]
    return items, pad_sequence(items, batch_first=True), torch.tensor([len(item) for item in items])


def test_every_family_is_tried_here() -> None:
    types = {getattr(__import__("transformers"), name).config_class.model_type for name, _, _ in SPEECH.values()}
    assert types == set(SPEECH_MODELS) == {*SPEECH_FAMILIES, "whisper"}


@torch.no_grad()
@pytest.mark.parametrize("kind", SPEECH)
def test_a_clip_gives_what_the_models_own_code_gives_and_the_same_in_any_batch(
    kind: str, folders: dict[str, Path]
) -> None:
    encoder = encoder_of(folders[kind]).double()
    items, inputs, lengths_B = batch_for(folders[kind])
    hidden_BTD, valid_BT = encoder(inputs + 3.0 * (inputs == 0), lengths_B)  # whatever lies behind a clip
    assert hidden_BTD.isfinite().all() and hidden_BTD.shape[:2] == valid_BT.shape
    assert torch.equal(valid_BT.sum(1), encoder.output_lengths(lengths_B)) and valid_BT.any(1).all()
    own: Any = load_transformers_model(folders[kind]).double()
    for row, item in enumerate(items):
        found_TD = hidden_BTD[row][valid_BT[row]]
        alone_BTD, alone_BT = encoder(item[None], lengths_B[row : row + 1])
        torch.testing.assert_close(alone_BTD[0][alone_BT[0]], found_TD, rtol=1e-10, atol=1e-10)
        if kind == "whisper" or SECONDS[row] < 0.1:
            continue  # Whisper's own code reads windows of 30 s alone: tests of its own
        expected_TD = own(item[None, :, 0] if item.shape[1] == 1 else item[None]).last_hidden_state[0]
        assert 0 <= len(expected_TD) - len(found_TD) <= (kind in SQUEEZED)
        torch.testing.assert_close(found_TD, expected_TD[: len(found_TD)], rtol=1e-10, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("kind", SPEECH)
def test_two_parts_are_the_whole_at_every_layer(kind: str, folders: dict[str, Path]) -> None:
    encoder = encoder_of(folders[kind]).double()
    _, inputs, lengths_B = batch_for(folders[kind])
    if kind in SQUEEZED:
        with pytest.raises(NotImplementedError, match="fewer steps than its output"):
            encoder.forward_to(inputs, lengths_B, 0)
    for layer in range(-1, encoder.num_layers) if kind not in SQUEEZED else ():
        put_adapters(encoder, layer)
        whole_BTD, valid_BT = encoder(inputs, lengths_B)
        x_BTD, reached_BT = encoder.forward_to(inputs, lengths_B, layer)
        assert torch.equal(reached_BT, valid_BT)
        torch.testing.assert_close(encoder.forward_from(x_BTD, valid_BT, layer), whole_BTD, rtol=1e-10, atol=1e-10)
    for point in encoder.insertion_points.values():
        if point.is_adapter_available():
            point.set_enabled_adapters("a", enabled=False)
    whole_BTD, valid_BT = encoder(inputs, lengths_B)
    x_BTD, _ = encoder.forward_to(inputs, lengths_B, encoder.num_layers)
    assert torch.equal(encoder.forward_from(x_BTD, valid_BT, encoder.num_layers), whole_BTD)


@torch.no_grad()
@pytest.mark.parametrize("kind", [kind for kind in SPEECH if kind not in SQUEEZED])
def test_slot_by_slot_each_clip_has_its_own_bits(kind: str, folders: dict[str, Path]) -> None:
    """As a pack and a kept prefix run it: what hides the end of a clip from a convolution goes along."""
    encoder, slots = encoder_of(folders[kind]), Current[Any]()
    slots.launch = SimpleNamespace(num_slots=1)
    copied = slotwise(TaskModel(encoder, CtcHead, 4).eval(), slots).encoder
    _, inputs, lengths_B = batch_for(folders[kind])
    inputs = inputs.float()
    alone_BTD, alone_valid = encoder.forward_to(inputs, lengths_B, 1)
    encoder.step_multiple = STEPS
    x_BTD, valid_BT = encoder.forward_to(inputs, lengths_B, 1)
    torch.testing.assert_close(x_BTD[:, : alone_BTD.shape[1]][alone_valid], alone_BTD[alone_valid])
    slots.launch.num_slots = len(inputs)
    together = copied.forward_to(inputs, lengths_B, 1)[0], copied.forward_from(x_BTD, valid_BT, 1)
    torch.testing.assert_close(together, (x_BTD, encoder.forward_from(x_BTD, valid_BT, 1)), rtol=1e-4, atol=1e-4)
    slots.launch.num_slots = 1
    may_mix = kind in MAY_MIX and "AMD" in machine()["processor"]
    same: Any = partial(torch.allclose, rtol=1e-4, atol=1e-4) if may_mix else torch.equal
    for row in range(len(inputs)):
        one, real = slice(row, row + 1), valid_BT[row]
        assert same(copied.forward_to(inputs[one], lengths_B[one], 1)[0][0, real], together[0][row, real])
        assert same(copied.forward_from(x_BTD[one], valid_BT[one], 1)[0, real], together[1][row, real])


def put_adapters(encoder: Encoder, first: int = 0) -> None:
    """Adapters that change something, switched on from a layer on."""
    for number, point in enumerate(encoder.insertion_points.values()):
        if not point.is_adapter_available():
            point.add_adapter("a", {"_target_": "harness.adapters.LinearAdapter", "dim": 4})
            adapter: Any = point.get_adapter_module("a")
            adapter.double()
            nn.init.normal_(adapter.module[-1].weight, generator=torch.Generator().manual_seed(number))
        point.set_enabled_adapters("a", enabled=number >= first)


@pytest.mark.parametrize("kind", SPEECH)
def test_adapters_start_as_nothing_learn_at_every_layer_and_switch_off(kind: str, folders: dict[str, Path]) -> None:
    encoder = encoder_of(folders[kind]).double()
    freeze_backbone(encoder)
    _, inputs, lengths_B = batch_for(folders[kind])
    with torch.no_grad():
        plain, valid_BT = encoder(inputs, lengths_B)
    shapes = []
    for point in encoder.insertion_points.values():
        point.add_adapter("a", {"_target_": "harness.adapters.LinearAdapter", "dim": 4})
        adapter: Any = point.get_adapter_module("a")
        adapter.double().register_forward_hook(lambda module, args, output: shapes.append(tuple(output.shape)))
    with torch.no_grad():  # torch may take another kernel where something learns
        assert torch.equal(encoder(inputs, lengths_B)[0], plain)
    layer_steps = plain.shape[1] // (2 if kind in SQUEEZED else 1)
    assert shapes == [(len(inputs), layer_steps, encoder.dim)] * encoder.num_layers
    for point in encoder.insertion_points.values():
        assert point.valid_frames is not None and point.valid_frames.shape == (len(inputs), layer_steps)
        last: Any = point.get_adapter_module("a")
        nn.init.normal_(last.module[-1].weight)
    changed = encoder(inputs, lengths_B)[0]
    assert not torch.allclose(changed, plain, atol=1e-2)
    changed[valid_BT].square().sum().backward()
    for point in encoder.insertion_points.values():
        last = point.get_adapter_module("a")
        assert float(last.module[-1].weight.grad.norm()) > 0 and last.module[-1].weight.grad.isfinite().all()
        point.set_enabled_adapters("a", enabled=False)
    with torch.no_grad():
        assert torch.equal(encoder(inputs, lengths_B)[0], plain)


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-bert", "parakeet", "lasr"])
def test_features_are_those_of_the_folders_own_extractor(kind: str, folders: dict[str, Path]) -> None:
    from transformers import AutoFeatureExtractor

    make: Any = AutoFeatureExtractor
    extractor = make.from_pretrained(folders[kind])
    for clip in clips()[:3]:
        found = ModelFeatures.of_folder(folders[kind], 0.3)(clip, SECOND)
        said = extractor(clip.numpy(), sampling_rate=SECOND, return_tensors="pt", return_attention_mask=True)
        expected = said["input_values"][0][:, None] if kind == "wav2vec2" else said["input_features"][0]
        if kind != "wav2vec2":
            expected = expected[said["attention_mask"][0][: len(expected)].bool()]
        assert torch.equal(found, expected.float())
        if kind == "wav2vec2":
            assert float(found.mean()) == pytest.approx(0, abs=1e-4) and float(found.std()) == pytest.approx(
                1, abs=1e-3
            )


def test_settings_of_the_extractor_may_lie_in_other_places(folders: dict[str, Path], tmp_path: Path) -> None:
    """Older folders do not name its class; newer ones keep it in processor_config.json."""
    (clip, *_), whole = clips(), json.loads((folders["wav2vec2"] / "preprocessor_config.json").read_text())
    expected = ModelFeatures.of_folder(folders["wav2vec2"], 0.0)(clip, SECOND)
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    for name, content in (
        ("processor_config.json", {"feature_extractor": whole}),
        ("preprocessor_config.json", {key: value for key, value in whole.items() if key != "feature_extractor_type"}),
    ):
        (tmp_path / name).write_text(json.dumps(content))
        assert torch.equal(ModelFeatures.of_folder(tmp_path, 0.0)(clip, SECOND), expected)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DataError, match="unknown feature_extractor_type 'None'; choices: "):
        ModelFeatures.of_folder(tmp_path, 0.0)


def test_the_list_of_layers_may_be_named(folders: dict[str, Path]) -> None:
    """A HuBERT with layer norms and few layers: the list with the most weights would be its convolutions."""
    assert len(encoder_of(folders["hubert_layer"]).insertion_points) == 3
    assert len(encoder_of(folders["hubert_layer"], layers_at="encoder.layers").insertion_points) == 3
    with pytest.raises(UserError, match=r"no list of layers 'layers'; choices: .*encoder\.layers"):
        encoder_of(folders["hubert_layer"], layers_at="layers")
    with pytest.raises(UserError, match=r"^encoder.path: .* gives hidden states of shape \[1, 25, 16\] "):
        encoder_of(folders["hubert_layer"], layers_at="feature_extractor.conv_layers")
    assert "layers_at" not in settings_for(folders["hubert"]).model_dump()


def test_layers_behind_the_encoder_are_refused(tmp_path: Path) -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    Wav2Vec2Model(Wav2Vec2Config(**WAV2VEC2, add_adapter=True)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has layers behind its encoder \\(add_adapter\\), which change its steps"):
        encoder_of(tmp_path)


@torch.no_grad()
@pytest.mark.parametrize("kind", SPEECH)
@pytest.mark.parametrize("points", ["houlsby", "towards_head"])
def test_points_inside_the_layers_are_exact(points: Any, kind: str, folders: dict[str, Path]) -> None:
    """Nothing before training and when switched off; each point alone changes the output; two parts are the whole."""
    encoder = encoder_of(folders[kind])
    freeze_backbone(encoder)
    plain, inputs = copy.deepcopy(encoder), encoder.example()
    if kind in SQUEEZED and points == "towards_head":
        with pytest.raises(
            UserError, match=r"^backbone\.points: towards_head: the layers of SEWD?Model have fewer steps"
        ):
            encoder.places(points)
        return
    expected, valid_BT = plain(*inputs)
    encoder.put_points(encoder.places(points))
    found = encoder.insertion_points.values()
    assert len(found) == encoder.num_layers * (2 if points == "houlsby" else 1)
    for point in found:
        point.add_adapter("a", {"_target_": "harness.adapters.LinearAdapter", "dim": 4})
    assert torch.equal(encoder(*inputs)[0], expected)
    put_adapters(encoder, len(found))
    for number, point in enumerate(found):
        last: Any = point.get_adapter_module("a")
        nn.init.normal_(last.module[-1].weight, generator=torch.Generator().manual_seed(number))
    assert torch.equal(encoder(*inputs)[0], expected)
    for point in found:
        point.set_enabled_adapters("a", enabled=True)
        assert not torch.allclose(encoder(*inputs)[0][valid_BT], expected[valid_BT], atol=1e-2)
        point.set_enabled_adapters("a", enabled=False)
    put_adapters(encoder)
    whole = encoder(*inputs)[0]
    if kind not in SQUEEZED:
        lowest = INPUT if points == "houlsby" else 0
        x_BTD, _ = plain.forward_to(*inputs, lowest)
        assert torch.equal(encoder.forward_from(x_BTD, valid_BT, lowest)[valid_BT], whole[valid_BT])


def write_recipe(folder: Path, corpus: TinySpeech, path: Path, **more: Any) -> Path:
    content = {
        "name": f"tiny_{folder.name}",
        "data": {"corpus": f"manifest:{corpus.manifest}", "domains": ["low"]},
        "encoder": {"kind": "transformers", "family": "speech", "path": str(folder), "tail_s": 0},
        "train": "head",
        "optim": {"lr": 0.01},
        "loop": {"epochs": 1, "batch_size": 4},
        **more,
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def trial(recipe: Path, corpus: TinySpeech) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "data": {"corpus": f"manifest:{corpus.manifest}", "source": ["low"], "target": "high", "train_limit": 6},
            "backbone": {"recipe": str(recipe), "layers": {"from": 1}},
            "train": "adapters",
            "adapter": {"_target_": "harness.adapters.LinearAdapter", "dim": 4},
            "loop": {"epochs": 2, "batch_size": 3, "valid_limit": 4},
            "seed": 0,
        }
    )


@torch.no_grad()
@pytest.mark.parametrize("kind", [kind for kind, (name, _, _) in SPEECH.items() if name.endswith("ForCTC")])
def test_a_ctc_model_keeps_its_own_output_layer_and_vocabulary(
    kind: str, folders: dict[str, Path], tiny_speech_files: TinySpeech, tmp_path: Path
) -> None:
    """What it writes without any training is what transformers' own scores say, decoded greedily by hand."""
    import transformers

    own_text = {"train": "none", "text": {"alphabet": str(folders[kind]), "normaliser": "none"}}
    recipe = load_recipe(str(write_recipe(folders[kind], tiny_speech_files, tmp_path / "recipe.yaml", **own_text)))
    backbone = load_backbone(recipe, CtcTask.head)
    assert backbone.symbols[:5] == ("A", "E", "O", "U", "|") and getattr(backbone.symbols, "blank", 0) == 5
    whole: Any = getattr(transformers, SPEECH[kind][0]).from_pretrained(folders[kind]).eval()
    items, inputs, lengths_B = batch_for(folders[kind])
    scores, valid_BT = backbone.model(inputs.float(), lengths_B)
    texts = CtcTask.make(recipe, backbone.symbols, None).predict(scores, valid_BT, None)  # type: ignore[arg-type]
    tokens = {number: token for token, number in json.loads((folders[kind] / "vocab.json").read_text()).items()}
    for row, item in enumerate(items[:3]):
        item = item.float()
        said = whole(item[None, :, 0] if item.shape[1] == 1 else item[None]).logits[0]
        torch.testing.assert_close(scores[row][valid_BT[row]], said, rtol=1e-4, atol=1e-4)
        path = [number for number, _ in groupby(said.argmax(-1).tolist()) if number not in (5, 6, 7, 8)]
        assert texts[row] == " ".join("".join(tokens[number] for number in path).replace("|", " ").split())
        assert path, "nothing was written"


@torch.no_grad()
def test_adapters_of_mms_go_out_and_in(folders: dict[str, Path], tiny_speech_files: TinySpeech, tmp_path: Path) -> None:
    """Ours, written to a file, are transformers' own; and what transformers loads is what a recipe's language loads."""
    from transformers import Wav2Vec2ForCTC

    base = write_speech_encoder("wav2vec2_layer", tmp_path)
    config = json.loads((base / "config.json").read_text())
    (tmp_path / "without").mkdir()
    without = tmp_path / "without" / "wav2vec2_layer"
    shutil.copytree(base, without)
    (without / "config.json").write_text(json.dumps(config | {"adapter_attn_dim": None}))
    more = {"train": "none", "text": {"alphabet": str(base), "normaliser": "none"}}
    recipe = load_recipe(str(write_recipe(without, tiny_speech_files, tmp_path / "recipe.yaml", **more)))
    backbone = load_backbone(recipe, CtcTask.head)
    adapters: list[Any] = []
    for number, point in enumerate(backbone.model.encoder.insertion_points.values()):
        point.add_adapter("a", {"_target_": "harness.adapters.LinearAdapter", "dim": 4, "activation": "relu"})
        adapters.append(point.get_adapter_module("a"))
        nn.init.normal_(adapters[-1].module[-1].weight, generator=torch.Generator().manual_seed(number))
    backbone.model.head.output.weight.add_(0.1)
    path = write_mms_adapter(base, "ita", adapters, backbone.model.head)
    assert path.name == "adapter.ita.safetensors"
    _, inputs, lengths_B = batch_for(base)
    inputs = inputs.float()
    scores, valid_BT = backbone.model.eval()(inputs, lengths_B)

    library: Any = Wav2Vec2ForCTC
    theirs = library.from_pretrained(base).eval()
    theirs.load_adapter("ita", local_files_only=True)
    said = theirs(inputs[:1, : lengths_B[0], 0]).logits[0]
    torch.testing.assert_close(scores[0][valid_BT[0]], said, rtol=1e-4, atol=1e-4)

    vocabulary = json.loads((base / "vocab.json").read_text())
    (base / "vocab.json").write_text(json.dumps({"eng": vocabulary, "ita": vocabulary}))
    more["text"] = {"alphabet": str(base), "language": "ita"}
    recipe = load_recipe(str(write_recipe(base, tiny_speech_files, tmp_path / "recipe.yaml", **more)))
    ours = load_backbone(recipe, CtcTask.head).model(inputs, lengths_B)[0]
    torch.testing.assert_close(ours[valid_BT], scores[valid_BT], rtol=1e-4, atol=1e-4)
    more["text"] = {"alphabet": str(base), "language": "eng"}
    recipe = load_recipe(str(write_recipe(base, tiny_speech_files, tmp_path / "recipe.yaml", **more)))
    with pytest.raises(UserError, match=r"^text\.language: .*adapter\.eng\..* cannot be read: .*languages there: ita$"):
        load_backbone(recipe, CtcTask.head)


def test_train_none_says_what_a_model_lacks(
    folders: dict[str, Path], tiny_speech_files: TinySpeech, tmp_path: Path
) -> None:
    def load(kind: str, alphabet: str) -> None:
        more = {"train": "none", "text": {"alphabet": alphabet}}
        recipe = load_recipe(str(write_recipe(folders[kind], tiny_speech_files, tmp_path / "recipe.yaml", **more)))
        load_backbone(recipe, CtcTask.head)

    with pytest.raises(UserError, match=r"set text\.alphabet to the model's folder or its vocab\.json$"):
        load("wav2vec2", "latin28")
    with pytest.raises(UserError, match=r"of its own, and this is HubertModel; choices: train: head, train: full$"):
        load("hubert", str(folders["wav2vec2"]))
    few = tmp_path / "vocab.json"
    few.write_text('{"<pad>": 0, "a": 1}', encoding="utf-8")
    with pytest.raises(UserError, match=r"has 2 symbols with the blank, and the model's output layer 32$"):
        load("wav2vec2", str(few))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm", "whisper"])
def test_peft_adapts_it_before_and_behind_the_cut(
    kind: str, folders: dict[str, Path], tiny_speech_files: TinySpeech, tmp_path: Path
) -> None:
    pytest.importorskip("peft", reason="PEFT is not installed (extra peft)")
    recipe = write_recipe(folders[kind], tiny_speech_files, tmp_path / "recipe.yaml")
    pretrain(load_recipe(str(recipe)), lambda entry: None)
    adapter = {"_target_": "peft.LoraConfig", "r": 2, "target_modules": r".*\.1\..*[qv]_proj"}
    config = trial(recipe, tiny_speech_files)
    config = config.model_copy(update={"adapter": adapter, "backbone": BackboneSettings(recipe=str(recipe))})
    resources, engines, found = Resources(), Engines(), {}
    if kind == "wavlm":  # it multiplies with the weights of these modules, and never calls them
        with pytest.raises(UserError, match=r"the output does not depend on encoder.layers.1.attention.v_proj.lora_A"):
            Trial(config, resources).check()
        return
    for name in ("plain", "cut"):
        one = Trial(config, resources, engine=engines.of(Execution.model_validate({"engine": name})))
        one.check()
        found[name] = one.run()
        assert one.executed["engine"] == name and found[name].checks["base_restored"].startswith("adapters off")
    assert found["cut"].valid == pytest.approx(found["plain"].valid, abs=1e-4)
    assert sum(found["cut"].adapters.values()) == 2 * 2 * (16 + 16)
    assert find_cut(config, resources.domains(config).backbone.model).layer == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPEECH)
def test_every_engine_trains_it_and_a_killed_training_goes_on(
    kind: str, folders: dict[str, Path], tiny_speech_files: TinySpeech, tmp_path: Path
) -> None:
    recipe = write_recipe(folders[kind], tiny_speech_files, tmp_path / "recipe.yaml")
    pretrain(load_recipe(str(recipe)), lambda entry: None)
    config, resources, engines = trial(recipe, tiny_speech_files), Resources(), Engines()
    found = {}
    for name in ("plain", "cut", "packed"):
        one = Trial(config, resources, engine=engines.of(Execution.model_validate({"engine": name})))
        one.check()
        found[name] = one.run()
        if name == "packed" and kind in MAY_MIX and Prefixes().of(one.domains).mixes_rows(config):
            assert one.executed["engine"] == "cut" and "depend on the items beside it" in str(one.executed["why"])
        else:
            assert one.executed["engine"] == ("plain" if kind in SQUEEZED else name), one.executed
    for name in ("cut", "packed"):
        assert found[name].valid == pytest.approx(found["plain"].valid, abs=1e-4)

    def kill(entry: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    engine = engines.of(Execution.model_validate({"engine": "cut"}))
    with pytest.raises(KeyboardInterrupt):
        Trial(config, resources, tmp_path / "checkpoint.safetensors", kill, engine).run()
    goes_on = Trial(config, resources, tmp_path / "checkpoint.safetensors", engine=engine).run()
    assert goes_on.valid == found["cut"].valid and goes_on.by_domain == found["cut"].by_domain


def test_samples_are_not_masked_as_features(
    folders: dict[str, Path], tiny_speech_files: TinySpeech, tmp_path: Path
) -> None:
    recipe = write_recipe(folders["wav2vec2"], tiny_speech_files, tmp_path / "recipe.yaml", loop={"augment": {}})
    with pytest.raises(UserError, match=r"^loop\.augment: .* this model reads samples; set it to null"):
        pretrain(load_recipe(str(recipe)), lambda entry: None)
