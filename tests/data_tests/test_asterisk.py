"""The Asterisk prompts: transcripts, places they are found in, and held-out prompts shared by all languages."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data import Corpus, DataError
from harness.data.cache import write_record
from harness.data.corpora.asterisk import has_asterisk, load_asterisk, read_transcripts
from harness.data.corpora.prompt_groups import GROUP_OF_KEY, SAME_PROMPT, prompt_group
from harness.data.corpus import SPLITS

TRANSCRIPTS = """\ufeff; Core Asterisk Sounds
no-separator-here
auth-thankyou: Grazie.
beep: [un suono]
digits/0: zero
digits/0: dieci
vm-login: Posta vocale. Casella di posta?
conf-full: La conferenza ? piena.
not-recorded: Manca.
press-1: Premi 1
"""

SOUNDS = "usr/share/asterisk/sounds/it_IT_m_Carlo"
DOC = "usr/share/doc/asterisk-core-sounds-it/core-sounds-it.txt.gz"


def write_sounds(folder: Path, make_tone: Callable[..., Path]) -> None:
    for key in ("auth-thankyou", "beep", "digits/0", "vm-login", "conf-full", "press-1"):
        make_tone(folder / f"{key}.wav", seconds=2.0)


@pytest.mark.parametrize(
    ("sounds", "transcripts"),
    [
        (f"it/{SOUNDS}", f"it/{DOC}"),
        (SOUNDS, DOC),
        ("asterisk/sounds/it_IT_m_Carlo", "doc/asterisk-core-sounds-it/core-sounds-it.txt.gz"),
        ("sounds/it", "sounds/it/core-sounds-it.txt"),
        ("it", "it/core-sounds-it.txt"),
        ("it", "core-sounds-it.txt"),
    ],
)
def test_layouts(tmp_path: Path, make_tone: Callable[..., Path], sounds: str, transcripts: str) -> None:
    """As unpacked here, as installed by Debian, as Asterisk itself lays them out, and a plain folder."""
    write_sounds(tmp_path / sounds, make_tone)
    path = tmp_path / transcripts
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = TRANSCRIPTS.encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    corpus = load_asterisk(tmp_path, languages=("it",))
    kept = ("auth-thankyou", "conf-full", "vm-login")
    assert {e.key: e.group for e in corpus.domains["it"]} == {f"it/{key}": key for key in kept}
    assert corpus.left_out == {"it": {"stage directions": 1, "no recording": 1, "digits": 1}}


@pytest.fixture
def local_copy(tmp_path: Path, make_tone: Callable[..., Path]) -> Path:
    """A copy of the Italian prompts that was not fetched by us."""
    write_sounds(tmp_path / "copy/it", make_tone)
    (tmp_path / "copy/core-sounds-it.txt").write_text(TRANSCRIPTS, encoding="utf-8")
    return tmp_path / "copy"


def test_another_copy_by_option_and_by_environment(
    tmp_path: Path, local_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_option = load_asterisk(tmp_path / "cache", languages=("it",), asterisk_root=local_copy)
    assert any("another version" in note for note in by_option.notes)
    assert not has_asterisk(tmp_path / "cache")
    monkeypatch.setenv("HARNESS_ASTERISK_ROOT", str(local_copy))
    assert load_asterisk(tmp_path / "cache", languages=("it",)) == by_option


def test_missing_languages_are_named(local_copy: Path) -> None:
    with pytest.raises(
        DataError, match=r"no prompts in .*copy for en, es, fr, ru; run: harness data fetch asterisk, or"
    ):
        load_asterisk(local_copy)
    with pytest.raises(DataError, match="asterisk has no language 'de'; choices: en, es, fr, it, ru"):
        load_asterisk(local_copy, languages=("de",))


def test_another_release_is_noted(local_copy: Path) -> None:
    write_record(local_copy / "it", {"other_version": False})
    assert not any("another version" in n for n in load_asterisk(local_copy, languages=("it",)).notes)
    write_record(local_copy / "it", {"other_version": True})
    assert any("another version" in n for n in load_asterisk(local_copy, languages=("it",)).notes)


def test_corrupt_recording_is_named(local_copy: Path) -> None:
    (local_copy / "it/vm-login.wav").write_bytes(b"RIFF nothing")
    with pytest.raises(DataError, match=r"it/vm-login\.wav: cannot be read as audio: .+"):
        load_asterisk(local_copy, languages=("it",))


def test_fingerprint_follows_the_audio_and_not_the_place(local_copy: Path, tmp_path: Path) -> None:
    first = load_asterisk(local_copy, languages=("it",)).fingerprint
    moved = local_copy.rename(tmp_path / "moved")
    assert load_asterisk(moved, languages=("it",)).fingerprint == first
    audio = (moved / "it/vm-login.wav").read_bytes()
    (moved / "it/vm-login.wav").write_bytes(audio[:-2] + b"\x01\x00")
    assert load_asterisk(moved, languages=("it",)).fingerprint != first


def test_contradictory_transcripts_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "core-sounds-it.txt"
    path.write_text(TRANSCRIPTS, encoding="utf-8")
    transcripts = read_transcripts(path, "it")
    assert "digits/0" not in transcripts
    assert "; Core Asterisk Sounds" not in transcripts


@pytest.mark.parametrize(
    ("lost", "repaired"),
    [
        ("il tempo sar? esattamente..", "il tempo sarà esattamente.."),
        ("non pu? essere completata cos? come composta.", "non può essere completata così come composta."),
        ("La conferenza ? piena.", "La conferenza è piena."),
        ("la tua chiamata pi? tardi.", "la tua chiamata più tardi."),
        ("Casella di posta?", "Casella di posta?"),
        ("in quale cartella?", "in quale cartella?"),
    ],
)
def test_italian_accents_are_repaired(tmp_path: Path, lost: str, repaired: str) -> None:
    path = tmp_path / "core-sounds-it.txt"
    path.write_text(f"key: {lost}\n", encoding="utf-8")
    assert read_transcripts(path, "it") == {"key": repaired}
    assert read_transcripts(path, "en") == {"key": lost}


def test_prompt_groups_are_disjoint() -> None:
    assert len(GROUP_OF_KEY) == sum(len(row) for row in SAME_PROMPT)
    assert prompt_group("privacy-thankyou") == prompt_group("auth-thankyou") == "auth-thankyou"
    assert prompt_group("unknown-key") == "unknown-key"


def test_no_test_prompt_is_spoken_in_training(asterisk: Corpus) -> None:
    """Words repeat, and that is reported; whole prompts do not, under whatever key."""
    for language in asterisk.domains:
        train, valid, test = ([e.transcript for e in asterisk.speech(language, split)] for split in SPLITS)
        assert set(train).isdisjoint(valid) and set(train).isdisjoint(test)
        words, known = " ".join(test).split(), set(" ".join(train).split())
        assert 0.4 < sum(word in known for word in words) / len(words) < 0.95


def test_real_prompts(asterisk: Corpus) -> None:
    assert tuple(asterisk.domains) == ("en", "es", "fr", "it", "ru")
    by_key = {e.key: e for split in SPLITS for d in asterisk.domains for e in asterisk.speech(d, split)}
    assert by_key["en/vm-goodbye"].transcript == "goodbye"
    assert by_key["it/conf-full"].transcript == "la conferenza e piena"
    assert by_key["ru/agent-loginok"].transcript == "operator zaregistrirovan"
    assert all(0.3 <= e.seconds <= 7.0 for e in by_key.values())
    assert "one voice a language: language and speaker shift together" in asterisk.notes


def test_splits_do_not_depend_on_the_languages_loaded(asterisk: Corpus) -> None:
    from harness.data import load_corpus

    alone = load_corpus("asterisk", languages=("it",))
    assert alone.split("it", "test") == asterisk.split("it", "test")
    assert alone.fingerprint != asterisk.fingerprint
