"""Real speech in five languages: the prompts of the Asterisk telephone exchange, with transcripts.

Studio recordings at 8 kHz, one voice a language, the same few hundred prompts in each. Licences: CC-BY-SA-3.0 (en, es,
fr), CC-BY-3.0 (it, ru). A prompt is held out by its key, the same one in every language, because the keys are shared.
"""

import gzip
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.data.audio_files import audio_seconds
from harness.data.cache import read_record, sha256_file
from harness.data.corpora.prompt_groups import prompt_group
from harness.data.corpus import Corpus, SpeechExample, fingerprint_rows
from harness.data.errors import DataError
from harness.data.fetch.asterisk import LANGUAGES, ROOT_HINT, check_languages
from harness.data.speech_text import LATIN28, Normaliser, rejection

ROOT_VARIABLE = "HARNESS_ASTERISK_ROOT"
SOUNDS_FOLDERS = ("usr/share/asterisk/sounds", "asterisk/sounds", "sounds", "")
NOTES = (
    "one voice a language: language and speaker shift together",
    "telephone prompts: the words of the test prompts mostly occur in training prompts too",
)

# The Italian transcripts lost some accented letters to a "?", in their only copy. These are all such words.
ITALIAN_REPAIRS = (
    (re.compile(r"\b(sar)\?(?=\s)"), r"\1à"),
    (re.compile(r"\b(pu|per)\?(?=\s)"), r"\1ò"),
    (re.compile(r"\b(cos)\?(?=\s)"), r"\1ì"),
    (re.compile(r"\b(pi)\?(?=\s)"), r"\1ù"),
    (re.compile(r"(?<=\s)\?(?=\s)"), "è"),
)


def load_asterisk(
    folder: Path,
    *,
    languages: Sequence[str] = LANGUAGES,
    asterisk_root: Path | str | None = None,
    normaliser: Normaliser = LATIN28,
) -> Corpus:
    """Read the prompts of `languages`, each one domain.

    They are looked for under `asterisk_root`, else under the environment's HARNESS_ASTERISK_ROOT, else under `folder`
    where fetching puts them. Raises DataError for an unknown or missing language, and for files that cannot be read.
    """
    check_languages(languages)
    base = _base(folder, asterisk_root)
    missing = [language for language in languages if _locate(base, language) is None]
    if missing:
        raise DataError(
            f"asterisk: no prompts in {base} for {', '.join(missing)}; "
            f"run: harness data fetch asterisk, or point {ROOT_HINT}"
        )
    read = {language: _read_language(base, language, normaliser) for language in languages}
    examples = [example for found, _ in read.values() for example in found]
    return Corpus(
        name="asterisk",
        modality="speech",
        domains={language: found for language, (found, _) in read.items()},
        symbols=normaliser.alphabet(example.transcript for example in examples),
        fingerprint=fingerprint_rows((e.key, e.group, e.transcript, sha256_file(e.path)) for e in examples),
        notes=(*NOTES, *version_notes(folder, languages, asterisk_root)),
        left_out={language: reasons for language, (_, reasons) in read.items()},
    )


def read_prompts(folder: Path, language: str) -> dict[str, str]:
    """Return key -> raw transcript of all prompts of `language`, recorded or not.

    They are looked for under the environment's HARNESS_ASTERISK_ROOT, else under `folder` where fetching puts them.
    Raises DataError when they are not there.
    """
    base = _base(folder)
    located = _locate(base, language)
    if located is None:
        raise DataError(f"asterisk: no prompts in {base} for {language}; run: harness data fetch asterisk")
    return read_transcripts(located[0], language)


def has_asterisk(folder: Path) -> bool:
    """Return whether all languages can be read from `folder`, or from where HARNESS_ASTERISK_ROOT points."""
    base = _base(folder)
    return all(_locate(base, language) is not None for language in LANGUAGES)


def version_notes(folder: Path, languages: Sequence[str], asterisk_root: Path | str | None = None) -> tuple[str, ...]:
    """Return the note on prompts that may be of another version than the one that results were made with."""
    base, elsewhere = _base(folder, asterisk_root), asterisk_root or os.environ.get(ROOT_VARIABLE)
    if not elsewhere and not any((read_record(base / name) or {}).get("other_version") for name in languages):
        return ()
    return ("another version of the Asterisk sounds than 1.6.1-1 of Debian 12 may have been used",)


def _base(folder: Path, asterisk_root: Path | str | None = None) -> Path:
    """Return where the prompts are looked for: see `load_asterisk`."""
    elsewhere = asterisk_root or os.environ.get(ROOT_VARIABLE)
    return Path(elsewhere).expanduser() if elsewhere else folder


def read_transcripts(path: Path, language: str) -> dict[str, str]:
    """Return key -> raw transcript of a core-sounds-XX.txt (or .txt.gz).

    A key listed with two different texts is left out: one of them must be wrong, and nothing says which.
    """
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    transcripts: dict[str, str] = {}
    ambiguous: set[str] = set()
    for line in raw.decode("utf-8-sig", errors="replace").splitlines():
        key, separator, text = line.partition(":")
        key, text = key.strip(), text.strip()
        if not separator or line.startswith(";"):
            continue
        if transcripts.setdefault(key, text) != text:
            ambiguous.add(key)
    if language == "it":
        transcripts = {key: _repair_italian(text) for key, text in transcripts.items()}
    return {key: text for key, text in transcripts.items() if key not in ambiguous}


def _repair_italian(text: str) -> str:
    for pattern, replacement in ITALIAN_REPAIRS:
        text = pattern.sub(replacement, text)
    return text


def _locate(base: Path, language: str) -> tuple[Path, Path] | None:
    """Return the transcript file and the sounds folder of `language` under `base`, or None."""
    for root in (base / language, base):
        for inner in SOUNDS_FOLDERS:
            parent = root / inner
            voices = [*sorted(parent.glob(f"{language}_*")), parent / language]
            for sounds in (voice for voice in voices if any(voice.glob("*.wav"))):
                documents = (root / "usr/share/doc", root / "doc", root.parent / "doc")
                places = [
                    sounds,
                    parent,
                    root,
                    base,
                    *(d / f"asterisk-core-sounds-{language}" for d in documents),
                ]
                for place in places:
                    for name in (f"core-sounds-{language}.txt", f"core-sounds-{language}.txt.gz"):
                        if (place / name).is_file():
                            return place / name, sounds
    return None


def _read_language(
    base: Path, language: str, normaliser: Normaliser
) -> tuple[tuple[SpeechExample, ...], dict[str, int]]:
    """Return the usable prompts of `language`, and how many were left out for what reason."""
    located = _locate(base, language)
    assert located is not None, "checked by the caller"
    transcripts, sounds = located
    examples: list[SpeechExample] = []
    reasons: Counter[str] = Counter()
    for key, raw in sorted(read_transcripts(transcripts, language).items()):
        path = sounds / f"{key}.wav"
        if not path.is_file():
            reasons["no recording"] += 1  # every release lists a few prompts that it does not have
            continue
        seconds = audio_seconds(path)
        # "#*": keys of the telephone, named in the middle of a prompt
        reason = rejection(raw, seconds, unspoken="#*", normaliser=normaliser, has_directions=True)
        if reason:
            reasons[reason] += 1
            continue
        examples.append(
            SpeechExample(
                key=f"{language}/{key}",
                group=prompt_group(key),
                domain=language,
                path=path,
                seconds=seconds,
                transcript=normaliser.normalise(raw),
                raw=raw,
            )
        )
    return tuple(examples), dict(reasons)
