"""Letters and syllables: the index, and what cannot be used of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data import DataError, SpeechExample
from harness.data.corpora.klettres import load_klettres
from harness.data.speech_text import NORMALISERS

INDEX = """<klettres><language code="it"><alphabet>
<sound name="A" file="it/alpha/a.wav"/> <sound name="\u00c0" file="it/alpha/a.wav"/>
<sound name="GLI" file="it/syllab/gli.wav"/> <sound name="\u05d0" file="it/alpha/a.wav"/>
<sound name="B" file="it/alpha/missing.wav"/> <sound name="C" file="it/alpha/c.wav"/>
</alphabet></language></klettres>"""


@pytest.fixture
def sounds(tmp_path: Path, make_tone: Callable[..., Path]) -> Path:
    make_tone(tmp_path / "it/alpha/a.wav")
    make_tone(tmp_path / "it/alpha/c.wav", seconds=0.05)
    make_tone(tmp_path / "it/syllab/gli.wav")
    (tmp_path / "it/sounds.xml").write_text(INDEX, encoding="utf-8")
    return tmp_path


def test_index(sounds: Path) -> None:
    corpus = load_klettres(sounds, languages=("it",))
    assert [(e.key, e.group) for e in corpus.domains["it"]] == [("it/a", "a"), ("it/gli", "gli")]
    assert corpus.left_out["it"] == {
        "same text twice": 1, "no words": 1, "no recording": 1, "too short or too long": 1,
    }  # fmt: skip


def test_other_scripts_and_accents_are_letters_of_their_own(sounds: Path) -> None:
    corpus = load_klettres(sounds, languages=("it",), normaliser=NORMALISERS["none"])
    assert [(e.key, e.group, e.raw) for e in corpus.domains["it"] if isinstance(e, SpeechExample)] == [
        ("it/A", "A", "A"), ("it/À", "À", "À"), ("it/GLI", "GLI", "GLI"), ("it/א", "א", "א"),
    ]  # fmt: skip
    assert corpus.symbols == ("A", "G", "I", "L", "\u00c0", "\u05d0")
    with pytest.raises(
        DataError, match=r"^klettres: he has no letters of a-z; choose another text\.normaliser, as none"
    ):
        load_klettres(sounds, languages=("he",))
    with pytest.raises(DataError, match=r"klettres has no language 'xx'; choices: .*, ar, he, ml"):
        load_klettres(sounds, languages=("xx",), normaliser=NORMALISERS["none"])


def test_errors(sounds: Path) -> None:
    with pytest.raises(DataError, match="klettres has no language 'xx'; choices: cs, "):
        load_klettres(sounds, languages=("xx",))
    with pytest.raises(DataError, match="run: harness data fetch klettres"):
        load_klettres(sounds, languages=("ru",))
    (sounds / "it/sounds.xml").write_text("<klettres>", encoding="utf-8")
    with pytest.raises(DataError, match=r"sounds\.xml: cannot be read as an index of sounds"):
        load_klettres(sounds, languages=("it",))
