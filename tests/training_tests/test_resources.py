"""What trials of one process share, and what does not fit together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_speech import TinySpeech
from tiny_text import TinyText
from trial_configs import MakeConfig

from harness.backbones.recipe import load_recipe
from harness.backbones.store import load_backbone
from harness.config.trial import AugmentSettings
from harness.data.corpora.registry import load_corpus
from harness.data.corpus import SPLITS, limit_valid
from harness.errors import UserError
from harness.tasks.ctc import CtcTask
from harness.tasks.fitting import WAY_OUT
from harness.tasks.inputs import TextInputs
from harness.tasks.making import make_task
from harness.tasks.registry import task_of_recipe
from harness.training.resources import Domains, Resources
from harness.training.trial import Trial


def test_each_thing_is_loaded_once(resources: Resources, make_config: MakeConfig) -> None:
    first, second = (resources.domains(make_config(seed=seed, optim={"lr": 1e-3 + seed})) for seed in (0, 1))
    assert first is second
    assert first.items("away", "train") is second.items("away", "train")
    assert resources.backbone(make_config().backbone.recipe) is first.backbone


def test_items_follow_the_corpus(resources: Resources, make_config: MakeConfig) -> None:
    domains = resources.domains(make_config())
    examples = domains.corpus.split("away", "test")
    assert [item.key for item in domains.items("away", "test")] == [example.key for example in examples]
    picked = [examples[3], examples[0]]
    assert [item.key for item in domains.items_of(picked, "away", "test")] == [example.key for example in picked]


@pytest.mark.parametrize("by_itself", [False, True], ids=["here", "by the tokenizer"])
def test_texts_that_are_cut_are_said(make_config: MakeConfig, by_itself: bool) -> None:
    resources, config = Resources(), make_config("frozen")
    unused = {"train_limit": 4, "pool": 8, "test": "all_unused"}
    config = config.model_copy(update={"data": config.data.model_copy(update=unused)})
    domains = resources.domains(config)
    assert domains.cut_notes(config.data) == [] and not [
        n for n in Trial(config, resources).run().notes if "cut" in n.text
    ]
    shorter = Resources()
    domains = shorter.domains(config)
    num_tokens = [len(item.inputs) for item in resources.domains(config).test_items(config.data, "away")]
    limit = min(num_tokens)
    inputs = domains.plain_task.inputs
    assert isinstance(inputs, TextInputs)
    inputs.max_length = limit
    if by_itself:
        inputs.tokenizer.enable_truncation(limit)
    num_cut = sum(number > limit for number in num_tokens)
    expected = f"away: {num_cut} of {len(num_tokens)} test texts have too many tokens and are cut"
    assert expected in domains.cut_notes(config.data) and num_cut > 0
    assert expected in [note.text for note in Trial(config, shorter).run().notes]


def test_base_scores_are_measured_once_for_each_precision(resources: Resources, make_config: MakeConfig) -> None:
    domains = Resources().domains(make_config())
    calls = []
    single, double = make_config().loop, make_config(loop={"precision": "float64"}).loop
    model = domains.backbone.model

    def watch(module: torch.nn.Module, args: Any, output: Any) -> None:
        calls.append(output[0].dtype)

    model.encoder.register_forward_hook(watch)
    items = domains.items("away", "test")
    first = domains.base_scores(model, items, single)
    num_calls = len(calls)
    assert domains.base_scores(model, items, single) is first and len(calls) == num_calls > 0
    exact = domains.base_scores(model.double(), items, double)
    assert exact is not first and set(calls) == {torch.float32, torch.float64}
    assert exact.loss == pytest.approx(first.loss, rel=1e-4) and exact.loss != first.loss


def test_base_scores_are_measured_once_for_each_limit(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    domains, loop = Resources().domains(make_config()), make_config().loop
    sizes = list[int]()
    score = domains.score

    def count(model: Any, items: Any, loop: Any) -> Any:
        sizes.append(len(items))
        return score(model, items, loop)

    monkeypatch.setattr(domains, "score", count)
    model, num_valid = domains.backbone.model, len(domains.items("away", "valid"))
    few, whole = (domains.base_scores(model, domains.valid_items("away", limit), loop) for limit in (3, None))
    assert few is domains.base_scores(model, list(domains.valid_items("away", 3)), loop) is not whole
    assert sizes == [3, num_valid] and few.loss == score(model, domains.valid_items("away", 3), loop).loss


def test_limited_validation_items_are_a_sample_of_the_split(resources: Resources, make_config: MakeConfig) -> None:
    """The corpus is ordered by thing and class, and its first items have one thing alone."""
    domains = resources.domains(make_config())
    chosen, whole = domains.valid_items("away", 6), domains.items("away", "valid")
    assert [item.key for item in chosen] == [e.key for e in limit_valid(domains.corpus.split("away", "valid"), 6)]
    assert {item.reference for item in chosen} == {item.reference for item in whole}
    assert domains.valid_items("away", None) == whole == domains.valid_items("away", len(whole) + 1)


def test_an_unknown_domain_or_an_empty_split_is_told(resources: Resources, make_config: MakeConfig) -> None:
    domains = resources.domains(make_config())
    with pytest.raises(UserError, match=r"no domain 'nowhere'; choices: away, home"):
        domains.items("nowhere", "test")


def test_an_empty_split_is_told(tmp_path: Path, tiny_text_files: TinyText) -> None:
    corpus = tmp_path / "some.csv"
    rows = [f"away,a {word} door,{word},{split}" for word in ("bad", "fair", "good") for split in ("train", "test")]
    corpus.write_text("\n".join(["domain,text,label,split,group", *(f"{r},{i}" for i, r in enumerate(rows))]))
    recipe = load_recipe(str(tiny_text_files.recipe))
    domains = Domains(load_backbone(recipe, task_of_recipe(recipe).head), load_corpus(f"manifest:{corpus}"))
    assert len(domains.items("away", "train")) == 3
    way_out = "mark some of its groups 'valid' in the column `split`, or leave that column out"
    with pytest.raises(UserError, match=rf"^corpus manifest:some: domain 'away' .* valid split; {way_out}$"):
        domains.items("away", "valid")
    hashed = Domains(domains.backbone, replace(domains.corpus, fixed_splits=None))
    empty = next(split for split in SPLITS if not hashed.corpus.split("away", split))
    way_out = r"its 3 groups are split by their hash, and none fell there; give data of your own a column `split` "
    with pytest.raises(UserError, match=rf"'away' has no examples in its {empty} split: {way_out}"):
        hashed.items("away", empty)


def test_a_backbone_reads_one_kind_of_examples(tiny_text_files: TinyText, tiny_speech_files: TinySpeech) -> None:
    text, speech = load_recipe(str(tiny_text_files.recipe)), load_recipe(str(tiny_speech_files.recipe))
    clips, sentences = (
        load_corpus(f"manifest:{tiny_speech_files.manifest}"),
        load_corpus(f"manifest:{tiny_text_files.corpus}"),
    )
    with pytest.raises(UserError, match=rf"^backbone tiny reads text, but corpus manifest:clips is speech; {WAY_OUT}$"):
        make_task(text, ("a",), None, clips, None)
    with pytest.raises(UserError, match=rf"^backbone tones reads speech, but corpus .* is text; {WAY_OUT}$"):
        make_task(speech, ("a",), None, sentences, None)


def test_outputs_have_to_match(tiny_text_files: TinyText, tiny_speech_files: TinySpeech) -> None:
    text, speech = load_recipe(str(tiny_text_files.recipe)), load_recipe(str(tiny_speech_files.recipe))
    clips, sentences = (
        load_corpus(f"manifest:{tiny_speech_files.manifest}"),
        load_corpus(f"manifest:{tiny_text_files.corpus}"),
    )
    wrong = ("good", "fair", "bad")  # the same classes in another order are other outputs
    with pytest.raises(UserError, match=r"has outputs \['bad', 'fair', 'good'\], but backbone tiny gives \['good', "):
        make_task(text, wrong, None, sentences, None)
    with pytest.raises(UserError, match=rf"but backbone tones gives \['a', 'b'\]; {WAY_OUT}$"):
        make_task(speech, ("a", "b"), None, clips, None)
    more = (*clips.symbols, "é")  # a backbone may write symbols that a corpus does not have
    assert isinstance(make_task(speech, more, None, clips, None), CtcTask)


def test_text_has_no_features_to_mask(tiny_text_files: TinyText) -> None:
    sentences = load_corpus(f"manifest:{tiny_text_files.corpus}")
    recipe = load_recipe(str(tiny_text_files.recipe))
    with pytest.raises(UserError, match=r"^loop\.augment: .* for text set it to null$"):
        make_task(recipe, sentences.symbols, None, sentences, AugmentSettings())
