"""Recipes: the hash that names a backbone, and errors in one line."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.backbones.recipe import SHIPPED, Recipe, backbone_directory, load_recipe
from harness.config.trial import AugmentSettings
from harness.errors import UserError

ENCODERS: dict[str, dict[str, Any]] = {
    "text": {"kind": "text"},
    "speech": {"kind": "speech"},
    "transformers": {"kind": "transformers", "path": "/models/bert", "prefix": "query: "},
    "transformers_speech": {"kind": "transformers", "family": "speech", "path": "/models/whisper"},
}
MORE: dict[str, dict[str, Any]] = {
    "text": {"loop": {"accumulate": 3, "label_smoothing": 0.1, "class_weights": {"good": 2.0}}, "pooling": "first"},
    "sgd": {"optim": {"name": "sgd", "momentum": 0.5, "groups": {"head": {"lr": 0.1, "weight_decay": 0.2}}}},
    "adafactor": {"optim": {"name": "adafactor"}},
}
"""Fields that are left out where they have their default."""
OF_TRIALS: dict[str, Any] = {"l2_sp": {"alpha": 0.1}, "kl_to_base": {"weight": 0.1}, "meta": {"over": ["movie"]}}
OTHER_CHOICES = {
    "first": "last",
    "adafactor": "sgd",
    "linear": "cosine",
    "float32": "float64",
    "cpu": "cuda",
    "full": "head",
}


def recipe_content(kind: str = "text") -> dict[str, Any]:
    """A recipe with every field written out, SpecAugment's included."""
    data = {"corpus": "vader", "domains": ["movie"], "options": {"a": 1}}
    more = MORE.get(kind, {})
    loop = {"augment": {"views": 2}, "patience": 3, **more.get("loop", {})}
    content = {"name": "r", "data": data, "encoder": ENCODERS.get(kind, ENCODERS["text"]), **more, "loop": loop}
    return Recipe.model_validate(content).model_dump(mode="json", by_alias=True)


def leaves(content: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every setting that holds no further settings, with its path."""
    if isinstance(content, dict) and path != ("data", "options"):
        for key, value in content.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, content


def another_value(path: tuple[str, ...], value: Any) -> Any:
    """A valid value that differs."""
    named = ("corpus", "path", "prefix", "name", "description", "task", "alphabet")
    if path[-1] in named and path != ("optim", "name"):
        return f"{value}2"
    if other := {"weights": "float16", "normaliser": "none", "language": "eng"}.get(path[-1]):
        return other
    if isinstance(value, str):
        return OTHER_CHOICES[value]
    if value is None:
        return 7
    if isinstance(value, dict):
        return value | {"b": 2}
    if isinstance(value, list):
        return [value[0] / 2, value[1]] if path[-1] == "betas" else [*value, "product"]
    return value / 2 if isinstance(value, float) else value + 1


ALL_LEAVES = [
    pytest.param(kind, path, id=f"{kind}:{'.'.join(path)}")
    for kind in ENCODERS
    for path, _ in leaves(recipe_content(kind))
    if path not in (("encoder", "kind"), ("encoder", "family")) and (kind == "text" or path[0] == "encoder")
] + [
    pytest.param(kind, path, id=f"{kind}:{'.'.join(path)}")
    for kind, name in (("sgd", "momentum"), ("sgd", "groups"), ("adafactor", "name"))
    for path, _ in leaves(recipe_content(kind))
    if path[:2] == ("optim", name)
]


def test_no_prefix_is_as_no_word_of_it() -> None:
    content = recipe_content("transformers")
    content["encoder"]["prefix"] = ""
    said = Recipe.model_validate(content)
    del content["encoder"]["prefix"]
    assert said.recipe_id == Recipe.model_validate(content).recipe_id
    assert said.model_dump(mode="json", by_alias=True) == content


@pytest.mark.parametrize("kind, path", ALL_LEAVES)
def test_the_hash_ignores_name_and_description_and_nothing_else(kind: str, path: tuple[str, ...]) -> None:
    content = recipe_content(kind)
    changed = copy.deepcopy(content)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = another_value(path, node[path[-1]])
    before, after = Recipe.model_validate(content), Recipe.model_validate(changed)
    assert before != after
    assert (before.recipe_id == after.recipe_id) == (path in {("name",), ("description",)})


def test_every_field_of_every_settings_class_is_tried() -> None:
    """So that a new field cannot be forgotten by the test above."""
    tried = {path[:2] for kind in MORE for path, _ in leaves(recipe_content(kind))}
    tried |= {path for kind in ENCODERS for path, _ in leaves(recipe_content(kind))}
    expected: set[tuple[str, ...]] = {("loop", "augment", name) for name in AugmentSettings.model_fields}
    for name, field in Recipe.model_fields.items():
        nested = getattr(field.annotation, "model_fields", None)
        expected |= {(name, inner) for inner in nested} - {("loop", "augment")} if nested else {(name,)}
    assert expected - {("encoder",)} - {("loop", name) for name in OF_TRIALS} <= tried


@pytest.mark.parametrize("name", OF_TRIALS)
def test_what_only_trials_have_is_refused(name: str) -> None:
    content = recipe_content("speech")
    content["loop"][name] = OF_TRIALS[name]
    with pytest.raises(ValueError, match=rf"loop\.{name} (pulls a trial|is a setting of trials)"):
        Recipe.model_validate(content)


def test_kinds_of_encoder_have_hashes_of_their_own() -> None:
    assert len({Recipe.model_validate(recipe_content(kind)).recipe_id for kind in ENCODERS}) == len(ENCODERS)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_found_by_name(path: Path) -> None:
    recipe = load_recipe(path.stem)
    assert recipe.name == path.stem and recipe.description


def test_an_unknown_recipe_names_the_choices() -> None:
    with pytest.raises(UserError, match=r"no backbone recipe 'tekst_small'; choices: .*text_small") as caught:
        load_recipe("tekst_small")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"train": "heads"}, "train: "),
        ({"encoder": {"kind": "text", "dim": 0}}, "encoder.dim: "),
        ({"encoder": {"kind": "text", "dims": 16}}, "unknown key 'dims'; choices: "),
        ({"encoder": {"kind": "video"}}, "encoder.kind: "),
        ({"seed": -1}, "seed: "),
        ({"data": {"corpus": "vader", "domains": []}}, "data.domains: "),
        ({"optim": {"lr": 0}}, "optim.lr: "),
    ],
)
def test_a_wrong_setting_is_one_line_with_file_and_place(change: dict[str, Any], expected: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe_content() | change), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_recipe(str(path))
    message = str(caught.value)
    assert message.startswith("mine.yaml: ") and expected in message and "\n" not in message


def test_where_backbones_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.model_validate(recipe_content())
    folder = f"r-{recipe.recipe_id}"
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "chosen"))
    assert backbone_directory(recipe) == tmp_path / "chosen" / "backbones" / folder
    monkeypatch.delenv("HARNESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert backbone_directory(recipe) == tmp_path / "xdg" / "harness" / "backbones" / folder
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert backbone_directory(recipe) == tmp_path / ".cache" / "harness" / "backbones" / folder
