"""Training a backbone: once, on its sources alone, from its checkpoint, to the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_text import TinyText

from harness.backbones.recipe import Recipe, backbone_directory, load_recipe
from harness.backbones.store import load_backbone
from harness.data.corpora.registry import load_corpus
from harness.errors import UserError
from harness.tasks.registry import task_of_recipe
from harness.training.pretrain import make_tokenizer, pretrain
from harness.training.resources import Domains

Entry = dict[str, Any]


@pytest.fixture
def recipe(tiny_text_files: TinyText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The tiny recipe, in an empty cache."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    return load_recipe(str(tiny_text_files.recipe))


def silent(entry: Entry) -> None:
    """A report that nobody reads."""


def test_a_backbone_is_trained_once(recipe: Recipe) -> None:
    entries: list[Entry] = []
    directory = pretrain(recipe, entries.append)
    assert directory == backbone_directory(recipe)
    assert [entry["epoch"] for entry in entries] == [1, 2]
    modified = (directory / "weights.safetensors").stat().st_mtime_ns
    assert pretrain(recipe, entries.append) == directory and len(entries) == 2
    assert (directory / "weights.safetensors").stat().st_mtime_ns == modified
    assert sorted(path.name for path in directory.parent.iterdir()) == [directory.name]  # no checkpoint is left
    facts = json.loads((directory / "backbone.json").read_text(encoding="utf-8"))
    best = entries[facts["best_epoch"] - 1]["metrics"]
    assert facts["scores"] == best and facts["corpus_fingerprint"] == load_corpus(recipe.data.corpus).fingerprint
    assert best["valid/accuracy"] == best["valid_home/accuracy"]
    assert entries[1]["metrics"]["train/loss"] < entries[0]["metrics"]["train/loss"]


def test_the_same_recipe_gives_the_same_bits(recipe: Recipe, tiny_text_files: TinyText, tmp_path: Path) -> None:
    """Also after a kill: from the checkpoint of its first epoch."""
    expected = json.loads((tiny_fingerprint(recipe, tiny_text_files)).read_text(encoding="utf-8"))["fingerprint"]

    def kill(entry: Entry) -> None:
        raise KeyboardInterrupt

    torch.manual_seed(12345)
    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, kill)
    assert not backbone_directory(recipe).exists()
    with pytest.raises(UserError, match="has no weights yet"):
        load_backbone(recipe, task_of_recipe(recipe).head)
    entries: list[Entry] = []
    pretrain(recipe, entries.append)
    assert [entry["epoch"] for entry in entries] == [1, 2]
    assert load_backbone(recipe, task_of_recipe(recipe).head).fingerprint == expected


def tiny_fingerprint(recipe: Recipe, files: TinyText) -> Path:
    """backbone.json of the session's own training of the recipe."""
    return Path(files.env["HARNESS_CACHE"]) / "backbones" / f"{recipe.name}-{recipe.recipe_id}" / "backbone.json"


def test_overwriting_trains_again(recipe: Recipe) -> None:
    pretrain(recipe, silent)
    entries: list[Entry] = []
    pretrain(recipe, entries.append, overwrite=True)
    assert len(entries) == 2


def test_neither_target_nor_test_examples_are_read(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = set()
    items = Domains.items

    def watch(self: Any, domain: str, split: Any) -> Any:
        asked.add((domain, split))
        return items(self, domain, split)

    monkeypatch.setattr(Domains, "items", watch)
    pretrain(recipe, silent)
    assert asked == {("home", "train"), ("home", "valid")}


def test_a_tokenizer_is_learnt_from_the_source_alone(recipe: Recipe) -> None:
    corpus = load_corpus(recipe.data.corpus)
    first = make_tokenizer(recipe, corpus)
    assert first is not None
    pieces = sorted(first.get_vocab(), key=first.get_vocab().__getitem__)
    assert pieces[0] == "[UNK]" and pieces[1:] == sorted(pieces[1:]) and len(pieces) <= 200
    assert first.encode("Kitchen").tokens == first.encode("kitchen").tokens == ["kitchen"]
    assert len(first.encode("ferry").tokens) > 1  # a word of the target


def test_the_same_sentences_give_the_same_tokenizer(recipe: Recipe) -> None:
    """The library alone settles ties between pairs by the order of a hash table: other pieces in most runs."""
    corpus = load_corpus(recipe.data.corpus)
    found = set()
    for _ in range(8):
        tokenizer = make_tokenizer(recipe, corpus)
        assert tokenizer is not None
        found.add(tokenizer.to_str())
    assert len(found) == 1


def test_speech_needs_no_tokenizer(tiny_speech_files: Any) -> None:
    recipe = load_recipe(str(tiny_speech_files.recipe))
    assert make_tokenizer(recipe, load_corpus(recipe.data.corpus)) is None
