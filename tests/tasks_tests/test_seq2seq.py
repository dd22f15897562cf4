"""Encoder and decoder: Whisper's loss and answers as transformers has them, and trials that adapt its layers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from backbones_tests.tiny_whisper import save_tiny_whisper
from engines_tests.packs import largest_difference, run_all
from tiny_speech import TinySpeech
from trial_configs import MakeConfig

from harness.backbones.fetched import fetched_folder, is_fetched_model
from harness.backbones.recipe import load_recipe
from harness.backbones.store import Backbone, load_backbone
from harness.config.execution import Execution
from harness.data.audio_backend import load_audio, resample
from harness.data.corpora.registry import is_fetched, load_corpus
from harness.data.speech_text import normalise_transcript
from harness.errors import UserError
from harness.tasks.making import head_maker
from harness.tasks.registry import task_of_recipe
from harness.tasks.task import Batch, Item
from harness.training.pretrain import pretrain
from harness.training.resources import Domains, Resources


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whisper")
    # Clips have less than a second, and a window of two; with random weights every answer is as long as it may be.
    save_tiny_whisper(folder, chunk_length=2, max_source_positions=100, max_target_positions=128)
    return folder


def write_recipe(folder: Path, files: TinySpeech, model: Path, **changes: Any) -> Path:
    path = folder / "recipe.yaml"
    content = {
        "name": "tiny_whisper",
        "data": {"corpus": f"manifest:{files.manifest}", "domains": ["low"]},
        "encoder": {"kind": "transformers", "family": "speech", "path": str(model)},
        "task": "seq2seq",
        "train": "none",
    }
    path.write_text(yaml.safe_dump(content | changes), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def recipe_path(tiny_speech_files: TinySpeech, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), tiny_speech_files, model_folder)


def loaded(recipe_path: Path) -> Backbone:
    recipe = load_recipe(str(recipe_path))
    return load_backbone(recipe, task_of_recipe(recipe).head)


@pytest.fixture
def domains(recipe_path: Path) -> Domains:
    backbone = loaded(recipe_path)
    return Domains(backbone, load_corpus(backbone.recipe.data.corpus))


def batch_of(domains: Domains, count: int) -> tuple[list[Item], Batch]:
    items = domains.items("low", "train")[:count]
    return items, domains.plain_task.collate(items, None)


def decode(domains: Domains, tokens: list[int]) -> str:
    tokenizer: Any = domains.backbone.tokenizer
    return str(tokenizer.decode(tokens))


@torch.no_grad()
def test_loss_and_answers_are_those_of_transformers(domains: Domains, model_folder: Path) -> None:
    import transformers

    library: Any = transformers
    theirs = library.WhisperForConditionalGeneration.from_pretrained(model_folder).eval()
    model, task = domains.backbone.model, domains.plain_task
    items, batch = batch_of(domains, 5)
    assert len({len(item.target) for item in items}) > 1  # so that some targets are padded
    hidden, valid = model.hidden(batch.inputs, batch.lengths)
    scores = model.head(hidden, valid, *task.given(batch))
    rows = task.loss_rows(scores, valid, batch)
    answers = task.answers(model, hidden, scores, valid, batch)
    for number, item in enumerate(items):
        window = torch.full((1, 16, 200), float(item.inputs.max()) - 2.0)
        window[0, :, : len(item.inputs)] = item.inputs.T
        labels = torch.cat([item.target, torch.tensor([50])])[None]
        expected = theirs(input_features=window, labels=labels).loss
        assert rows[number] == pytest.approx(float(expected), rel=1e-5)
        wanted = labels[0].numpy()  # each token from those before it, by numpy
        scores_TC = scores[number, : len(wanted)].double().numpy()
        log_probs = scores_TC - np.log(np.exp(scores_TC).sum(1, keepdims=True))
        assert rows[number] == pytest.approx(-log_probs[np.arange(len(wanted)), wanted].mean(), rel=1e-5)
        written = theirs.generate(window, max_length=60, do_sample=False)[0].tolist()
        tokens = [token for token in written if token not in (50, 51)]
        assert len(tokens) > 50  # with random weights it never ends; here it may write a few tokens more
        assert answers[number].startswith(" ".join(decode(domains, tokens).split()))
    assert task.loss(scores, valid, batch) == pytest.approx(float(rows.mean()))


@torch.no_grad()
def test_suppressed_tokens_are_never_written(domains: Domains) -> None:
    head: Any = domains.backbone.model.head
    _, batch = batch_of(domains, 2)
    hidden, _ = domains.backbone.model.hidden(batch.inputs, batch.lengths)
    free = head.greedy(hidden)
    favourite = free[0][1]
    head.suppressed = [favourite]
    assert favourite in free[0] and all(favourite not in row for row in head.greedy(hidden))
    head.suppressed, head.suppressed_first = [], [free[0][0]]
    assert head.greedy(hidden)[0][0] != free[0][0]


def config_changes(recipe_path: Path, layers: Any, **loop: Any) -> dict[str, Any]:
    return {
        "backbone": {"recipe": str(recipe_path), "layers": layers},
        "loop": {"epochs": 1, "batch_size": 3, "augment": None, "valid_limit": 2, **loop},
        "data": {"train_limit": 4},
        "adapter": {"_target_": "harness.adapters.LinearAdapter", "dim": 4},
    }


@pytest.mark.slow
@pytest.mark.parametrize("layers", ["all", {"from": 1}, {"from": 2}, [3]])
def test_adapters_of_encoder_and_decoder_learn_and_come_off(
    layers: Any, recipe_path: Path, make_speech_config: MakeConfig, tmp_path: Path
) -> None:
    """Whole and behind the cut, in float64; the record's own check says that the base comes back bit for bit."""
    resources = Resources()
    config = make_speech_config(**config_changes(recipe_path, layers, precision="float64"))
    (plain,) = run_all([config], resources, tmp_path / "plain", Execution())
    (cut,) = run_all([config], resources, tmp_path / "cut", Execution(engine="cut"))
    for found in (plain, cut):
        assert found.error is None and found.outcome is not None
        assert "bit for bit" in found.outcome.checks["base_restored"]
        assert not [note for note in found.outcome.notes if note.kind == "unmoved"]
        assert found.outcome.metrics.keys() >= {"target_wer", "target_cer", "source_wer", "forgetting"}
    assert largest_difference(cut, plain) < 1e-12
    if layers == "all":  # it cannot be packed, and trains behind its cut instead
        (packed,) = run_all([config], resources, tmp_path / "packed", Execution(engine="packed", pack=2))
        assert largest_difference(packed, plain) < 1e-12


def test_the_frozen_model_needs_no_pretraining(recipe_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to pretrain"):
        pretrain(load_recipe(str(recipe_path)), lambda entry: None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"task": "ctc"},
            "train: none keeps the model's output layer, which writes its own symbols; set text.alphabet",
        ),
        ({"task": "seq2seq", "encoder": {"kind": "speech"}}, "seq2seq"),
    ],
)
def test_what_does_not_fit_is_one_line(
    change: dict[str, Any], told: str, tiny_speech_files: TinySpeech, model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=told) as caught:
        loaded(write_recipe(tmp_path, tiny_speech_files, model_folder, **change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("generation_config.json", None, "the decoder's settings cannot be read"),
        ("generation_config.json", {"decoder_start_token_id": 51}, "eos_token_id"),
        (
            "generation_config.json",
            {"decoder_start_token_id": 51, "eos_token_id": 50, "forced_decoder_ids": [[1, None]]},
            "leaves the language open",
        ),
        ("tokenizer.json", None, "tokenizer.json"),
        ("config.json", {"model_type": "bert"}, "no model with a decoder of type 'bert'; choices: whisper"),
    ],
)
def test_a_folder_without_what_the_decoder_needs_is_one_line(
    name: str, content: Any, told: str, tiny_speech_files: TinySpeech, model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(json.dumps(content))
    with pytest.raises(UserError, match=told) as caught:
        loaded(write_recipe(tmp_path, tiny_speech_files, folder))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["ctc", "seq2seq"])
def test_a_model_that_was_trained_further_is_kept_whole_in_float16(
    task: str, tiny_speech_files: TinySpeech, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original folder is not needed again, and the kept weights give the scores that were told."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    more = {"task": task, "train": "full", "weights": "float16", "loop": {"epochs": 1, "batch_size": 4}}
    path = write_recipe(tmp_path, tiny_speech_files, folder, **more)
    saved = pretrain(load_recipe(str(path)), lambda entry: None)
    told = json.loads((saved / "backbone.json").read_text())
    shutil.rmtree(folder)
    backbone = loaded(path)
    assert backbone.fingerprint == told["fingerprint"]
    assert all(torch.equal(weight, weight.half().float()) for weight in backbone.model.state_dict().values())
    domains = Domains(backbone, load_corpus(backbone.recipe.data.corpus))
    scored = domains.score(backbone.model, domains.valid_items("low", None), backbone.recipe.loop)
    assert scored.scores == {name: told["scores"][f"valid_low/{name}"] for name in scored.scores}


@pytest.mark.slow
@pytest.mark.real_data
def test_whisper_writes_what_transformers_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real weights, real recordings: the same words, and few of them wrong."""
    monkeypatch.undo()  # the real caches
    if not (is_fetched_model("whisper_tiny_en") and is_fetched("asterisk")):
        pytest.skip("Whisper or the recordings are not fetched; run: harness data fetch whisper_tiny_en asterisk")
    import transformers

    library: Any = transformers
    recipe = load_recipe("speech_whisper_seq2seq")
    domains = Domains(load_backbone(recipe, head_maker(recipe)), load_corpus("asterisk", languages=("en",)))
    examples = domains.corpus.speech("en", "test")[:6]
    items = domains.items_of(examples, "en", "test")
    found = domains.score(domains.backbone.model, items, recipe.loop)
    folder = fetched_folder("whisper_tiny_en")
    theirs = library.WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    extractor = library.WhisperFeatureExtractor.from_pretrained(folder)
    for example, answer in zip(examples, found.predictions, strict=True):
        clip = resample(*load_audio(example.path), extractor.sampling_rate).numpy()
        window = extractor(clip, sampling_rate=extractor.sampling_rate, return_tensors="pt").input_features
        tokens = theirs.generate(window, do_sample=False)[0].tolist()
        assert answer == normalise_transcript(decode(domains, tokens))
    assert found.scores["wer"] < 0.15
