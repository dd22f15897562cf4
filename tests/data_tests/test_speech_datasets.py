"""Speech Commands and LibriSpeech, read from tiny folders in their real layouts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data import DataError, fetch_corpus, is_fetched, load_corpus
from harness.data.corpora import librispeech, speechcommands
from harness.data.corpus import SPLITS

COMMANDS = {
    "yes/aaa_nohash_0.wav": "train",
    "yes/bbb_nohash_0.wav": "valid",
    "seven/ccc_nohash_1.wav": "test",
    "seven/aaa_nohash_0.wav": "train",
    "cat/aaa_nohash_2.wav": "train",
}


@pytest.fixture
def commands(tmp_path: Path, make_tone: Callable[..., Path]) -> Path:
    folder = tmp_path / "SpeechCommands/speech_commands_v0.02"
    for name in COMMANDS:
        make_tone(folder / name, seconds=1.0, rate=16000)
    make_tone(folder / "_background_noise_/pink_noise.wav")
    for split, name in (("valid", "validation_list.txt"), ("test", "testing_list.txt")):
        (folder / name).write_text("".join(f"{n}\n" for n, s in COMMANDS.items() if s == split))
    return tmp_path


def test_speech_commands(commands: Path) -> None:
    corpus = load_corpus("speechcommands", commands)
    assert {d: len(e) for d, e in corpus.domains.items()} == {"commands": 2, "digits": 2, "things": 1}
    clips = ((e, split) for d in corpus.domains for split in SPLITS for e in corpus.speech(d, split))
    assert {f"{e.transcript}/{e.path.name}": split for e, split in clips} == COMMANDS
    example = corpus.speech("digits", "test")[0]
    assert (example.group, example.seconds, example.path.is_file()) == ("ccc", 1.0, True)


def test_speech_commands_unknown_word_and_straddling_speaker(commands: Path, make_tone: Callable[..., Path]) -> None:
    folder = commands / "SpeechCommands/speech_commands_v0.02"
    extra = make_tone(folder / "zebra/ddd_nohash_0.wav")
    with pytest.raises(DataError, match="unknown word 'zebra'; the words are yes, no, up"):
        load_corpus("speechcommands", commands)
    extra.unlink()
    make_tone(folder / "no/ccc_nohash_0.wav")
    with pytest.raises(DataError, match="speaker ccc is in train and in test"):
        load_corpus("speechcommands", commands)


@pytest.fixture
def audiobooks(tmp_path: Path, make_tone: Callable[..., Path]) -> Path:
    for speaker, subset in ((19, "train-clean-100"), (84, "dev-clean"), (61, "test-clean"), (62, "test-clean")):
        chapter = tmp_path / "LibriSpeech" / subset / str(speaker) / "198"
        chapter.mkdir(parents=True)
        lines = []
        for number, seconds in enumerate((1.0, 2.0, 25.0) if speaker == 19 else (1.0,)):
            name = f"{speaker}-198-{number:04d}"
            make_tone(chapter / f"{name}.flac", seconds=seconds, rate=16000)
            lines.append(f"{name} IT'S A TEST {'AGAIN ' * number}\n")
        (chapter / f"{speaker}-198.trans.txt").write_text("".join(lines))
    return tmp_path


def test_librispeech_official_split(audiobooks: Path) -> None:
    corpus = load_corpus("librispeech", audiobooks)
    assert [len(corpus.split("clean", split)) for split in SPLITS] == [2, 1, 2]
    second = corpus.speech("clean", "train")[1]
    assert second.key == "train-clean-100/19-198-0001"
    assert second.transcript == "it's a test again"
    assert second.seconds == pytest.approx(2.0)
    assert corpus.left_out == {"clean": {"too long": 1}}
    assert corpus.notes == ("official split",)


def test_librispeech_without_all_subsets_splits_by_speaker(audiobooks: Path) -> None:
    (audiobooks / "LibriSpeech/dev-clean").rename(audiobooks / "elsewhere")
    corpus = load_corpus("librispeech", audiobooks)
    assert corpus.fixed_splits is None
    assert corpus.notes == ("not the official split but one by speaker, over train-clean-100, test-clean",)


def test_librispeech_longest_clip(audiobooks: Path) -> None:
    assert len(load_corpus("librispeech", audiobooks, longest_s=30.0).split("clean", "train")) == 3


@pytest.mark.parametrize("name", ["speechcommands", "librispeech"])
def test_other_folders_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"not a copy of Speech Commands|no subset of LibriSpeech"):
        load_corpus(name, tmp_path)


def test_downloads_are_left_to_torchaudio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is downloaded here: the calls are recorded instead."""
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(speechcommands, "_dataset", lambda *args, **options: calls.append((*args, options)))
    monkeypatch.setattr(librispeech, "_dataset", lambda *args, **options: calls.append((*args, options)))
    for name in ("speechcommands", "librispeech"):
        fetch_corpus(name, root=tmp_path / name)
        assert is_fetched(name, root=tmp_path / name)
    assert calls[0] == (tmp_path / "speechcommands", {"download": True})
    assert [call[1] for call in calls[1:]] == ["dev-clean", "test-clean", "dev-other", "test-other"]
    with pytest.raises(DataError, match="LibriSpeech has no subset 'train'; choices: train-clean-100"):
        fetch_corpus("librispeech", root=tmp_path / "x", subsets=("train",))
