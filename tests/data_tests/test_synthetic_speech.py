"""The synthetic corpus: sentences aligned across languages, rendered reproducibly in a child process."""

import importlib.util
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.data import DataError
from harness.data.cache import sha256_file, write_record
from harness.data.corpora import synthetic_speech
from harness.data.corpora.synthetic_prompts import LANGUAGES, PROMPTS_PER_OBJECT, synthetic_prompts
from harness.data.corpora.synthetic_speech import fetch_nanotts, has_nanotts, load_nanotts, recipe, render
from harness.data.corpus import SPLITS
from harness.data.speech_text import normalise_transcript


def test_every_sentence_exists_in_every_language() -> None:
    prompts = synthetic_prompts()
    keys = {language: [p.key for p in prompts if p.language == language] for language in LANGUAGES}
    assert all(keys[language] == keys["en"] for language in LANGUAGES)
    assert len(keys["en"]) == len(set(keys["en"])) == 48 * PROMPTS_PER_OBJECT
    assert prompts == synthetic_prompts()


def test_no_sentence_twice() -> None:
    for language in LANGUAGES:
        texts = Counter(normalise_transcript(p.text) for p in synthetic_prompts() if p.language == language)
        assert max(texts.values()) == 1


def test_recipe_is_pinned() -> None:
    """Another wording or voice must be another folder, and is a new corpus."""
    assert recipe() == "839266afd56c0c65"


def test_missing_synthesiser_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"needs the package py-nanotts; run: pip install py-nanotts==\S+$") as caught:
        fetch_nanotts(tmp_path)
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'synthetic = ["{str(caught.value).rpartition(" ")[2]};' in pyproject  # the same version as the extra's


def test_crashing_synthesiser_is_tried_again_and_then_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def crash(command: list[str], **options: Any) -> SimpleNamespace:
        calls.append(options)
        return SimpleNamespace(returncode=-11, stderr="")

    monkeypatch.setattr(subprocess, "run", crash)
    with pytest.raises(DataError, match="nanotts: the synthesiser failed 3 times: exit code -11"):
        render(tmp_path, synthetic_prompts()[:2])
    assert len(calls) == synthetic_speech.NUM_ATTEMPTS
    assert calls[0]["env"]["MALLOC_MMAP_THRESHOLD_"] == "131072"


@pytest.mark.skipif(importlib.util.find_spec("py_nanotts") is None, reason="needs pip install -e '.[synthetic]'")
@pytest.mark.skipif(sys.platform != "linux", reason="the synthesiser is reproducible with glibc only")
def test_rendering_is_reproducible(tmp_path: Path) -> None:
    prompts = synthetic_prompts()[:10]
    render(tmp_path / "one", prompts)
    render(tmp_path / "two", prompts[::-1])
    for prompt in prompts:
        name = f"{prompt.language}/{prompt.key}.wav"
        assert sha256_file(tmp_path / "one" / name) == sha256_file(tmp_path / "two" / name)


def test_loading(tmp_path: Path, make_tone: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="run: harness data fetch nanotts"):
        load_nanotts(tmp_path)
    inner = tmp_path / recipe()
    for prompt in synthetic_prompts():
        if prompt.language == "de":
            make_tone(inner / "de" / f"{prompt.key}.wav", seconds=0.01)
    write_record(inner, {})
    assert has_nanotts(tmp_path)
    corpus = load_nanotts(tmp_path, languages=("de",))
    assert corpus.notes[0].startswith("speech is synthetic")
    nouns = {split: {e.group for e in corpus.split("de", split)} for split in SPLITS}
    assert not nouns["train"] & nouns["test"]
    with pytest.raises(DataError, match="nanotts has no language 'ru'; choices: en, es, fr, it, de"):
        load_nanotts(tmp_path, languages=("ru",))
