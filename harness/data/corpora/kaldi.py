"""Kaldi's data folders: wav.scp and text, and segments and utt2spk where they are there. No command is run.

https://kaldi-asr.org/doc/data_prep.html has the format: the first word of a line is its key, the rest its value.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from harness.data.corpora.delimited import lines_of, read_file
from harness.data.corpora.local_rows import Row
from harness.data.errors import DataError

SCRIPT, TEXT, SEGMENTS, SPEAKERS = "wav.scp", "text", "segments", "utt2spk"
PARENTS = 2  # a path of data/train/wav.scp starts from the folder in which Kaldi's scripts were started


def is_kaldi(folder: Path) -> bool:
    """Whether a folder is one of Kaldi's, with transcripts."""
    return (folder / SCRIPT).is_file() and (folder / TEXT).is_file()


def read_kaldi(folder: Path, notes: list[str]) -> Iterator[Row]:
    """Yield a row for each utterance of `text`: path, transcript, offset, duration, and speaker if any is known.

    Raises DataError, with file and line, for commands and archives in wav.scp, which are not run or read, for an
    utterance without a recording, and for segments that are none.
    """
    recordings = {key: _audio(folder, place, value) for key, (place, value) in _table(folder / SCRIPT).items()}
    pieces = _segments(folder / SEGMENTS) if (folder / SEGMENTS).is_file() else {}
    speakers = {key: value for key, (_, value) in _table(folder / SPEAKERS).items()} if _has_speakers(folder) else {}
    transcripts = _table(folder / TEXT)
    for utterance, (place, transcript) in transcripts.items():
        recording, offset, duration = pieces.get(utterance, (utterance, "", ""))
        if pieces and utterance not in pieces:
            raise DataError(f"{place}: utterance {utterance!r} is not in {folder / SEGMENTS}")
        if recording not in recordings:
            raise DataError(f"{place}: recording {recording!r} of utterance {utterance!r} is not in {folder / SCRIPT}")
        columns = {"key": utterance, "path": recordings[recording], "transcript": transcript}
        columns |= {"offset": offset, "duration": duration, "speaker": speakers.get(utterance, "")}
        yield Row(place, {name: value for name, value in columns.items() if value}, folder)
    if silent := [key for key in pieces or recordings if key not in transcripts]:
        notes.append(f"{folder.name}: utterances without a line in {TEXT}: {len(silent)}, first {silent[0]}")


def _table(path: Path) -> dict[str, tuple[str, str]]:
    """Key -> the place of its line, and the rest of it."""
    found: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(lines_of(read_file(path)), start=1):
        if not line.strip():
            continue
        key, *rest = re.split(r"[ \t]+", line.strip(" \t"), maxsplit=1)
        if key in found:
            raise DataError(f"{path}, line {number}: {key!r} occurs twice")
        found[key] = (f"{path}, line {number}", rest[0] if rest else "")
    return found


def _audio(folder: Path, place: str, value: str) -> str:
    """Return the path of an audio file, as seen from its data folder."""
    if value.endswith("|") or value.startswith("|"):
        raise DataError(f"{place}: {value[:60]!r} is a command, which is not run; write its output to audio files")
    if re.search(r"\.ark(:\d+)?(\[.*\])?$", value) or value in ("", "-"):
        raise DataError(f"{place}: {value[:60]!r} is no audio file; write the recordings to files, one each")
    starts = [folder, *list(folder.resolve().parents)[:PARENTS]]
    return next((str(start / value) for start in starts if (start / value).is_file()), value)


def _segments(path: Path) -> dict[str, tuple[str, str, str]]:
    """Utterance -> its recording, and where in it the utterance begins and how long it is (empty: to the end)."""
    found = {}
    for utterance, (place, value) in _table(path).items():
        fields = value.split()
        try:
            recording, begin, end = fields
            start_s, end_s = float(begin), float(end)
        except ValueError:
            expected = "expected UTTERANCE RECORDING BEGIN END, with times in seconds (and no channel)"
            raise DataError(f"{place}: {expected}, got {f'{utterance} {value}'[:80]!r}") from None
        found[utterance] = (recording, begin, "" if end_s == -1 else repr(round(end_s - start_s, 6)))
    return found


def _has_speakers(folder: Path) -> bool:
    """Whether speakers are known: Kaldi's folders without them name each utterance's speaker as the utterance."""
    if not (folder / SPEAKERS).is_file():
        return False
    return any(key != speaker for key, (_, speaker) in _table(folder / SPEAKERS).items())
