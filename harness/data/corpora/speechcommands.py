"""Speech Commands: one-word recordings by thousands of speakers (Warden, 2018, arXiv 1804.03209; CC-BY-4.0).

Read from a local copy in its official layout, through torchaudio's dataset; its 35 words make three domains. A word is
a transcript, or (`answer: label`) a class, of which each domain then has its own.
The split is the official one, by speaker.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.data.cache import write_record
from harness.data.corpus import Corpus, SpeechExample, Split, fingerprint_rows
from harness.data.errors import DataError
from harness.data.speech_text import LATIN28, Normaliser
from harness.errors import must_be_in

VERSION = "speech_commands_v0.02"
DOMAINS: dict[str, tuple[str, ...]] = {
    "commands": ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go",
                 "backward", "forward", "follow", "learn", "visual"),
    "digits": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "things": ("bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow"),
}  # fmt: skip
WORDS = tuple(word for words in DOMAINS.values() for word in words)
DOMAIN_OF_WORD = {word: domain for domain, words in DOMAINS.items() for word in words}
OFFICIAL_SPLITS: tuple[tuple[str, Split], ...] = (
    ("training", "train"),
    ("validation", "valid"),
    ("testing", "test"),
)
HEADER_BYTES, BYTES_PER_S = 44, 32000  # all files are 16-bit mono WAV at 16 kHz


def fetch_speechcommands(folder: Path, *, allow_other_version: bool = False) -> None:
    """Let torchaudio download version 0.02 (2.3 GB, checked by its own hash) into `folder`."""
    del allow_other_version  # torchaudio knows one hash, and checks it
    folder.mkdir(parents=True, exist_ok=True)
    _dataset(folder, download=True)
    write_record(folder, {"archives": {VERSION: "checked by torchaudio"}, "other_version": False})


def load_speechcommands(folder: Path, *, normaliser: Normaliser = LATIN28, answer: str = "transcript") -> Corpus:
    """Read a local copy: `folder`/SpeechCommands/speech_commands_v0.02/WORD/SPEAKER_nohash_N.wav.

    The two lists of the archive (validation_list.txt, testing_list.txt) give the split. Raises DataError when
    the folder is not laid out so, for a word that is not one of the 35, when a speaker is in two splits, and for an
    unknown answer.
    """
    must_be_in(answer, ("transcript", "label"), f"speechcommands: answer: {answer!r} is no kind of answer", DataError)
    splits: dict[str, Split] = {}
    found: dict[str, list[SpeechExample]] = {}
    rows: list[tuple[str, ...]] = []
    for subset, split in OFFICIAL_SPLITS:
        dataset = _dataset(folder, subset=subset)
        for number in range(len(dataset)):
            example, size = _example(folder, *dataset.get_metadata(number))
            if splits.setdefault(example.group, split) != split:
                raise DataError(f"{folder}: speaker {example.group} is in {splits[example.group]} and in {split}")
            found.setdefault(example.domain, []).append(example)
            rows.append((example.key, example.group, split, example.transcript, str(size)))
    if answer == "label":
        rows.append(("answers", "label"))
        found = {name: [replace(clip, label=WORDS.index(clip.transcript)) for clip in c] for name, c in found.items()}
    if not found:
        raise DataError(f"{folder}: no recordings under SpeechCommands/{VERSION}/WORD")
    return Corpus(
        name="speechcommands",
        modality="speech",
        domains={domain: tuple(found[domain]) for domain in DOMAINS if domain in found},
        symbols=normaliser.alphabet(DOMAIN_OF_WORD),
        clip_classes=WORDS if answer == "label" else (),
        fingerprint=fingerprint_rows(rows),
        notes=("single words by many speakers; domains are sets of words; official split, by speaker",),
        fixed_splits=splits,
    )


def _dataset(folder: Path, **options: Any) -> Any:
    from harness.data.audio_backend import torchaudio  # here: reading other corpora should not import torch

    try:
        return torchaudio.datasets.SPEECHCOMMANDS(folder, url=VERSION, **options)
    except (RuntimeError, OSError) as error:
        raise DataError(f"{folder}: not a copy of Speech Commands: {error}") from error


def _example(
    folder: Path, relative: str, _rate: int, word: str, speaker: str, _number: int
) -> tuple[SpeechExample, int]:
    if word not in DOMAIN_OF_WORD:
        raise DataError(f"{folder}: unknown word {word!r}; the words are {', '.join(DOMAIN_OF_WORD)}")
    path = folder / "SpeechCommands" / relative
    size = path.stat().st_size
    example = SpeechExample(
        key=f"{word}/{path.stem}",
        group=speaker,
        domain=DOMAIN_OF_WORD[word],
        path=path,
        seconds=max(0, size - HEADER_BYTES) / BYTES_PER_S,  # reading 100,000 headers would take minutes
        transcript=word,  # lower case and a-z, whatever the normaliser
        raw=word,
    )
    return example, size
