"""Backbones on disk: a round trip, and one line for everything that can be broken."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from harness.backbones.model import ClassifierHead, TaskModel
from harness.backbones.recipe import Recipe, backbone_directory
from harness.backbones.store import build_encoder, build_model, fingerprint_of, load_backbone, save_backbone
from harness.errors import UserError
from harness.tasks.registry import task_of_recipe

ENCODERS: dict[str, dict[str, Any]] = {
    "text": {"kind": "text", "dim": 8, "num_layers": 2, "num_heads": 2, "hidden": 16},
    "speech": {"kind": "speech", "num_mels": 6, "dim": 8, "num_layers": 2, "num_heads": 2, "hidden": 16, "kernel": 3},
}


def make_recipe(family: str, **encoder: Any) -> Recipe:
    data = {"corpus": "manifest:none", "domains": ["a"]}
    return Recipe.model_validate({"name": "mini", "data": data, "encoder": ENCODERS[family] | encoder})


def make_tokenizer() -> Tokenizer:
    words = {"[UNK]": 0, "good": 1, "bad": 2, "film": 3}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def save_mini(family: str) -> tuple[Recipe, TaskModel, Path]:
    recipe = make_recipe(family)
    symbols, tokenizer = (("bad", "good"), make_tokenizer()) if family == "text" else (("a", "b", " "), None)
    make_head = task_of_recipe(recipe).head
    model = build_model(recipe, make_head, symbols, tokenizer.get_vocab_size() if tokenizer else 0, seed=3)
    return recipe, model, save_backbone(recipe, model, symbols, tokenizer, {"best_epoch": 2})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))


@pytest.mark.parametrize("family", ENCODERS)
def test_a_saved_backbone_comes_back_to_the_bit(family: str) -> None:
    recipe, model, directory = save_mini(family)
    assert directory == backbone_directory(recipe)
    backbone = load_backbone(recipe, task_of_recipe(recipe).head)
    assert backbone.directory == directory
    assert backbone.symbols == (("bad", "good") if family == "text" else ("a", "b", " "))
    assert backbone.fingerprint == fingerprint_of(model) == fingerprint_of(backbone.model)
    assert not any(module.training for module in backbone.model.modules())
    loaded = backbone.model.state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())
    if backbone.tokenizer is not None:
        assert backbone.tokenizer.encode("good film").ids == [1, 3]
    facts = json.loads((directory / "backbone.json").read_text(encoding="utf-8"))
    assert facts["best_epoch"] == 2 and Recipe.model_validate(facts["recipe"]) == recipe


def test_saving_replaces_the_folder_whole() -> None:
    _, _, directory = save_mini("text")
    (directory / "left_over.txt").write_text("x", encoding="utf-8")
    save_mini("text")
    files = {"backbone.json", "tokenizer.json", "weights.safetensors"}
    assert {path.name for path in directory.iterdir()} == files
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


def test_the_fingerprint_sees_every_weight_and_name() -> None:
    _, model, _ = save_mini("text")
    expected = fingerprint_of(model)
    for parameter in model.parameters():
        flat = parameter.data.view(-1)
        kept = flat[-1].clone()
        flat[-1] = torch.nextafter(kept, kept + 1)
        assert fingerprint_of(model) != expected
        flat[-1] = kept
    assert fingerprint_of(model) == expected


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def change_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def drop_key(path: Path, key: str) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    del content[key]
    path.write_text(json.dumps(content), encoding="utf-8")


def rename_weight(path: Path) -> None:
    weights = load_file(path)
    save_file({f"{name}2" if name == "head.output.bias" else name: value for name, value in weights.items()}, path)


def widen_weight(path: Path) -> None:
    weights = load_file(path)
    save_file(weights | {"head.output.bias": torch.zeros(7)}, path)


BREAKS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "truncated weights": ("weights.safetensors", truncate),
    "flipped byte in the weights": ("weights.safetensors", flip_last_byte),
    "empty weights": ("weights.safetensors", lambda path: write(path, b"")),
    "missing weights": ("weights.safetensors", Path.unlink),
    "another weight": ("weights.safetensors", rename_weight),
    "a weight of another shape": ("weights.safetensors", widen_weight),
    "missing tokenizer": ("tokenizer.json", Path.unlink),
    "truncated tokenizer": ("tokenizer.json", truncate),
    "tampered fingerprint": ("backbone.json", lambda path: change_json(path, fingerprint="0" * 64)),
    "no fingerprint": ("backbone.json", lambda path: drop_key(path, "fingerprint")),
    "no symbols": ("backbone.json", lambda path: drop_key(path, "symbols")),
    "other symbols": ("backbone.json", lambda path: change_json(path, symbols=["a", "b", "c"])),
    "truncated json": ("backbone.json", truncate),
    "json of another kind": ("backbone.json", lambda path: write(path, b"[]")),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_backbone_is_one_line_that_says_what_to_do(name: str) -> None:
    recipe, _, directory = save_mini("text")
    file, break_it = BREAKS[name]
    break_it(directory / file)
    with pytest.raises(UserError) as caught:
        load_backbone(recipe, task_of_recipe(recipe).head)
    message = str(caught.value)
    assert message.startswith(f"{directory}: ") and "\n" not in message and len(message) < 600
    assert message.endswith("delete the folder and run: harness pretrain mini")


def test_a_backbone_that_was_never_trained_names_the_command() -> None:
    recipe = make_recipe("text")
    with pytest.raises(
        UserError, match=rf"backbone mini \({recipe.recipe_id}\) has no weights yet; run: harness pretr"
    ):
        load_backbone(recipe, task_of_recipe(recipe).head)


@pytest.mark.parametrize(
    "family, sizes, expected",
    [
        ("text", {"dim": 10, "num_heads": 4}, "dim 10 over 4 heads must give an even width per head"),
        ("text", {"dim": 9, "num_heads": 3}, "dim 9 over 3 heads must give an even width per head"),
        ("speech", {"dim": 6, "num_heads": 2}, "dim 6 over 2 heads must give an even width per head"),
        ("speech", {"kernel": 4}, "the convolution kernel must be odd, got 4"),
    ],
)
def test_sizes_that_do_not_fit_are_the_users_mistake(family: str, sizes: dict[str, int], expected: str) -> None:
    with pytest.raises(UserError, match=rf"^recipe mini: encoder: {re.escape(expected)}$"):
        build_encoder(make_recipe(family, **sizes), vocab_size=10)


def test_first_weights_come_from_the_seed_alone() -> None:
    recipe = make_recipe("text")
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first = build_model(recipe, ClassifierHead, ("a", "b"), 10, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    again, other = (build_model(recipe, ClassifierHead, ("a", "b"), 10, seed=seed) for seed in (1, 2))
    assert fingerprint_of(first) == fingerprint_of(again) != fingerprint_of(other)
