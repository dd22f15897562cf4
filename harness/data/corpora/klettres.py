"""Letters and syllables spoken in many languages: very short recordings, from KDE's KLettres (GPL-2+).

A second small speech set beside asterisk: one voice a language, a few dozen to a hundred clips each. What is spoken is
the name of a letter, so only the syllables sound as they are written. A text is held out in every language at once.

With `answer: label` it is a corpus of classes: the letters a to z alone, each spoken once a language. Held out in every
language, a letter could not be learnt at all, so each recording is a group of its own there.
"""

import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.data.audio_files import audio_seconds
from harness.data.cache import require_fetched, sha256_file, staging_folder, write_record
from harness.data.corpus import Corpus, SpeechExample, fingerprint_rows
from harness.data.errors import DataError
from harness.data.fetch.apt import download_package, unpack_deb
from harness.data.speech_text import LATIN28, Normaliser
from harness.errors import must_be_in

PACKAGE = "klettres-data"
SHA256 = "1186d257a19e84230856baea0b0b1ded8be9195080fcdb2588970b5cd937f5a8"  # 4:22.12.3-1, Debian 12
SHORTEST_S, LONGEST_S = 0.1, 7.0
# Those in Latin or Cyrillic script; the others have no place in the alphabet of 28 symbols.
LANGUAGES = ("cs", "da", "de", "en", "en_GB", "es", "fr", "hu", "it", "lt", "nb", "nds", "nl", "pt_BR",
             "ru", "tn", "uk")  # fmt: skip
OTHER_SCRIPTS = ("ar", "he", "ml")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
ONE_VOICE = "one voice a language: language and speaker shift together"
NOTES = {
    "transcript": ("letters and syllables, not sentences", ONE_VOICE),
    "label": ("the names of the letters a to z; a letter that one language tests, others may train on", ONE_VOICE),
}


def fetch_klettres(folder: Path, *, allow_other_version: bool = False) -> None:
    """Download the Debian package and unpack its sounds into `folder`."""
    with staging_folder(folder) as staging, tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        deb, digest = download_package(
            PACKAGE,
            SHA256,
            Path(scratch),
            hint="root at a copy of /usr/share/klettres",
            allow_other_version=allow_other_version,
        )
        unpacked = Path(scratch) / "unpacked"
        unpack_deb(deb, unpacked)
        for source in sorted((unpacked / "usr/share/klettres").iterdir()):
            source.replace(staging / source.name)
        write_record(staging, {"archives": {PACKAGE: digest}, "other_version": digest != SHA256})


def load_klettres(
    folder: Path,
    *,
    languages: Sequence[str] | None = None,
    normaliser: Normaliser = LATIN28,
    answer: str = "transcript",
) -> Corpus:
    """Read `languages` (default: all that the normaliser can write), each one domain.

    Their clips have transcripts or (`answer: label`) letters as classes. Raises DataError for an unknown language or
    answer, and for files that cannot be read.
    """
    must_be_in(answer, NOTES, f"klettres: answer: {answer!r} is no kind of answer", DataError)
    choices = LANGUAGES if normaliser is LATIN28 else (*LANGUAGES, *OTHER_SCRIPTS)
    domains: dict[str, tuple[SpeechExample, ...]] = {}
    left_out: dict[str, dict[str, int]] = {}
    for language in choices if languages is None else languages:
        if language in OTHER_SCRIPTS and language not in choices:
            raise DataError(f"klettres: {language} has no letters of a-z; choose another text.normaliser, as none")
        must_be_in(language, choices, f"klettres has no language {language!r}", DataError)
        domains[language], left_out[language] = _read_language(folder, language, normaliser)
        if answer == "label":
            letters = tuple(_as_letter(clip) for clip in domains[language] if clip.transcript.casefold() in LETTERS)
            left_out[language]["no single letter of a to z"] = len(domains[language]) - len(letters)
            domains[language] = letters
    examples = [example for members in domains.values() for example in members]
    return Corpus(
        name="klettres",
        modality="speech",
        domains=domains,
        symbols=normaliser.alphabet(example.transcript for example in examples),
        fingerprint=fingerprint_rows((e.key, e.group, e.transcript, sha256_file(e.path)) for e in examples),
        notes=NOTES[answer],
        clip_classes=LETTERS if answer == "label" else (),
        left_out=left_out,
    )


def _as_letter(clip: SpeechExample) -> SpeechExample:
    return replace(clip, label=LETTERS.index(clip.transcript.casefold()), group=clip.key)


def _read_language(
    folder: Path, language: str, normaliser: Normaliser
) -> tuple[tuple[SpeechExample, ...], dict[str, int]]:
    index = require_fetched(folder / language / "sounds.xml", "klettres")
    try:
        sounds = list(ElementTree.parse(index).iter("sound"))
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"{index}: cannot be read as an index of sounds: {error}") from error
    found: dict[str, SpeechExample] = {}
    reasons: Counter[str] = Counter()
    for sound in sounds:
        path, raw = folder / sound.get("file", ""), sound.get("name", "")
        text = normaliser.normalise(raw)
        key = f"{language}/{text}"
        if not text:
            reasons["no words"] += 1
        elif not path.is_file():
            reasons["no recording"] += 1
        elif key in found:
            reasons["same text twice"] += 1  # letters that differ by an accent only
        elif not SHORTEST_S <= (seconds := audio_seconds(path)) <= LONGEST_S:
            reasons["too short or too long"] += 1
        else:
            found[key] = SpeechExample(
                key=key, group=text, domain=language, path=path, seconds=seconds, transcript=text, raw=raw
            )
    return tuple(found.values()), dict(reasons)
