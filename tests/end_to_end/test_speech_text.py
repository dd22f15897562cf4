"""Other alphabets than the 28 letters, the whole way: a backbone is pretrained, a trial run, its table verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_tests.conftest import Cli
from tiny_speech import experiment_settings, recipe_settings, write_corpus

from harness.backbones.recipe import backbone_directory, load_recipe
from harness.data.cache import data_cache
from harness.data.corpora.registry import is_fetched

pytestmark = pytest.mark.slow

FETCHED = data_cache()  # before a test moves it

CYRILLIC = str.maketrans("aeou", "аэёу")
VOCAB = {"А": 0, "Э": 1, "Ё": 2, "|": 3, "[UNK]": 4, "[PAD]": 5}  # no У; the blank last, in upper case


def cyrillic_tones(root: Path, text: dict[str, Any]) -> None:
    """The tiny speech experiment with Cyrillic transcripts; the target has capitals and a full stop besides."""
    manifest = write_corpus(root)
    lines = manifest.read_text(encoding="utf-8").splitlines()
    rows = [line.split(",") for line in lines[1:]]
    for row in rows:
        row[2] = row[2].translate(CYRILLIC)
        row[2] = f"{row[2].title()}." if row[0] == "high" else row[2]
    manifest.write_text("\n".join([lines[0], *map(",".join, rows)]) + "\n", encoding="utf-8")
    recipe = root / "tones.yaml"
    recipe.write_text(yaml.safe_dump(recipe_settings(manifest) | {"text": text}), encoding="utf-8")
    settings = experiment_settings(manifest, recipe)
    (root / "tiny_tones.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def pretrain_and_run(cli: Cli, root: Path) -> tuple[str, dict[str, Any]]:
    """The table, and the backbone's facts; every command succeeds, and the results are verified."""
    for command in (("pretrain", root / "tones.yaml"), ("run", root / "tiny_tones.yaml")):
        done = cli(*command)
        assert done.code == 0, done.err
    verified = cli("verify", "tiny_tones")
    assert verified.code == 0, verified.out + verified.err
    assert "scores by domain follow from the predictions" in verified.out
    table = cli("table", "tiny_tones")
    facts = backbone_directory(load_recipe(str(root / "tones.yaml"))) / "backbone.json"
    return table.out, json.loads(facts.read_text(encoding="utf-8"))


def test_cyrillic_transcripts_with_the_characters_of_the_source(cli: Cli, tmp_path: Path) -> None:
    cyrillic_tones(tmp_path, {"alphabet": "characters", "normaliser": "none"})
    table, facts = pretrain_and_run(cli, tmp_path)
    assert facts["symbols"] == ["а", "у", "э", "ё"] and "symbol_table" not in facts
    assert "the text of the normaliser none (text as it is" in table
    # Each of the target's four test transcripts has a capital and a full stop, which the source has not.
    assert "8 of the " in table and "characters of the test transcripts of high ('.'" in table
    assert "its character error rate cannot fall below" in table and "CTC learns the rest" in table


def test_the_vocabulary_of_a_ctc_model(cli: Cli, tmp_path: Path) -> None:
    cyrillic_tones(tmp_path, {"alphabet": "vocab.json"})
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    (tmp_path / "vocab.json").write_text(json.dumps(VOCAB), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    table, facts = pretrain_and_run(cli, tmp_path)
    assert facts["symbols"] == ["А", "Э", "Ё", "|", "[UNK]"] and facts["symbol_table"]["blank"] == 5
    assert any("'у'" in note and "learnt as [UNK]" in note for note in facts["notes"])
    assert "the text of the normaliser basic (lower case" in table and "'у'" in table


@pytest.mark.real_data
@pytest.mark.parametrize("corpus, sources, target, own, lacking", [
    ("asterisk", ["en", "fr"], "it", "éàç", "ì"),
    ("asterisk", ["ru"], "it", "жъё", None),
    ("klettres", ["he"], "ar", "אם", None),
    ("klettres", ["ru"], "uk", "ёыщ", "ї"),
])  # fmt: skip
def test_real_recordings_in_their_own_script(
    corpus: str, sources: list[str], target: str, own: str, lacking: str | None, cli: Cli, tmp_path: Path
) -> None:
    """A target with a few letters more is learnt and scored; one in another script is refused with a way out."""
    if not is_fetched(corpus, root=FETCHED / corpus):
        pytest.skip(f"corpus {corpus} is not fetched; run: harness data fetch {corpus}")
    (tmp_path / "data").mkdir()  # what is computed stays here
    (tmp_path / "data" / corpus).symlink_to(FETCHED / corpus)
    recipe, settings = recipe_settings(Path()), experiment_settings(Path(), tmp_path / "tones.yaml")
    recipe |= {"data": {"corpus": corpus, "domains": sources}, "text": {"alphabet": "characters"}}
    recipe["loop"] = {"epochs": 1, "batch_size": 16, "valid_limit": 20}
    settings["base"]["data"] = {"corpus": corpus, "source": sources, "target": target, "train_limit": 10}
    settings["base"]["loop"] = {"epochs": 1, "batch_size": 5, "valid_limit": 10}
    settings["arms"] = {"frozen": {"train": "none", "adapter": None}, "residual_add": {}}
    for name, content in (("tones", recipe), ("tiny_tones", settings)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    if lacking is None:
        assert cli("pretrain", tmp_path / "tones.yaml").code == 0
        refused = cli("run", tmp_path / "tiny_tones.yaml")
        assert refused.code == 2
        assert f"of the characters in the training transcripts of {target} (" in refused.error
        assert "text.alphabet: characters), or one with the normaliser latin28" in refused.error
        return
    table, facts = pretrain_and_run(cli, tmp_path)
    assert set(own) <= set(facts["symbols"]) and lacking not in facts["symbols"]
    assert f"characters of the training transcripts of {target} (" in table and f"'{lacking}'" in table
    assert "the text of the normaliser basic (lower case, punctuation and symbols as spaces)" in table
