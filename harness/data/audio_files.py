"""The package's one use of soundfile: the length of an audio file, and its samples as an array. No torch here."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from harness.data.errors import DataError

MIN_RATE, MAX_RATE = 4000, 192_000  # Hz; outside, a header is broken: speech needs 4,000, no recorder goes above
BLOCK = 1 << 16  # samples decoded at a time, because a header may promise more than any memory holds
LONGEST_S = 24 * 3600.0  # a length above it is no length: a stream's header (FLAC, to a pipe) has none, or any number
MISSING_S = 0.1  # how much shorter than its header says a file may be: lengths of MP3 are estimates
UNKNOWN_BYTES, UNKNOWN_BYTES_64 = 0x7FFFF000, 1 << 62  # sox and ffmpeg state such lengths when they write to a pipe
LOOSE_BYTES = 16  # some programs count the file's own header into its length


def audio_seconds(path: Path) -> float:
    """Return the length of `path` in seconds, from its header where that has it; raises DataError as `read_audio`."""
    with _opened(path) as file:
        frames = file.frames if _has_length(file, path) else sum(map(len, _blocks(file)))
        return float(frames / file.samplerate)


def read_audio(path: Path, segment: tuple[float, float] | None = None) -> tuple[NDArray[np.float32], int]:
    """Return the samples of `path` as float32 [samples] in -1..1 (channels averaged), and the rate in Hz.

    `segment` is where to begin and how much to read, both in seconds; the whole file when None. Raises DataError with
    path and reason when the file is missing, corrupt, cut short, empty or not finite, or has an impossible rate.
    """
    with _opened(path) as file:
        rate, has_length = int(file.samplerate), _has_length(file, path)
        start, wanted = (0, None) if segment is None else (round(seconds * rate) for seconds in segment)
        promised = (file.frames if has_length else 0) if wanted is None else wanted
        if has_length and soundfile.SoundFile.seekable(file):
            file.seek(start)
        else:
            for _ in _blocks(file, start):  # a stream cannot be searched: read up to there
                pass
        blocks = list(_blocks(file, wanted))
    num_samples = sum(map(len, blocks))
    if num_samples == 0:
        raise DataError(f"{path}: cannot be used as audio: it holds no samples")
    if num_samples < promised - MISSING_S * rate:
        raise DataError(f"{path}: cannot be used as audio: {_cut(num_samples / rate, promised / rate)}")
    mono = np.concatenate([block.mean(axis=1, dtype=np.float32) for block in blocks])
    if not np.isfinite(mono).all():
        raise DataError(f"{path}: cannot be used as audio: it holds samples that are not finite")
    return mono, rate


def write_audio(path: Path, samples: NDArray[np.int16], rate: int) -> None:
    """Write int16 `samples` [samples] at `rate` Hz as a 16-bit WAV file."""
    soundfile.write(path, samples, rate, subtype="PCM_16", format="WAV")


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read from front to back: soundfile searches its place after each read, and a stream has none."""

    def seekable(self) -> bool:
        return False


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield the open file; raises DataError for one that is missing or no audio, and for what fails in the block."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise DataError(f"{path}: cannot be read as audio: it is not a file")
        path.open("rb").close()  # where this fails, it says why; libsndfile calls it a system error
        with _ForwardFile(path) as file:
            if missing := _missing_bytes(path):
                have = path.stat().st_size
                raise DataError(f"{path}: cannot be used as audio: {_cut(have, have + missing, 'bytes')}")
            if not MIN_RATE <= file.samplerate <= MAX_RATE:
                raise DataError(
                    f"{path}: cannot be used as audio: its header says {file.samplerate} samples a second; "
                    f"expected {MIN_RATE} to {MAX_RATE}"
                )
            yield file
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip() or "its contents are damaged"
        raise DataError(f"{path}: cannot be read as audio: {reason}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read as audio: {error.strerror or error}") from error
    except DataError:
        raise
    except (RuntimeError, MemoryError, ValueError) as error:  # ValueError: a name that no file can have
        raise DataError(f"{path}: cannot be read as audio: {error}") from error


def _blocks(file: Any, wanted: int | None = None) -> Iterator[NDArray[np.float32]]:
    """Yield the samples [samples, channels] from where the file stands: `wanted` of them, or all."""
    left = wanted
    while left is None or left > 0:
        block: NDArray[np.float32] = file.read(BLOCK if left is None else min(BLOCK, left), "float32", always_2d=True)
        if len(block) == 0:
            return
        left = None if left is None else left - len(block)
        yield block


def _has_length(file: Any, path: Path) -> bool:
    """Whether the header's length can be believed: a stream has none, and libsndfile guesses that of a bare MP3."""
    if not 0 < file.frames <= LONGEST_S * file.samplerate:
        return False
    if file.format != "MP3":
        return True
    with path.open("rb") as opened:
        head = opened.read(1 << 16)  # a tag, with a picture perhaps, may be in front of what states the length
    return any(mark in head for mark in (b"Xing", b"Info", b"VBRI"))


def _cut(have: float, promised: float, unit: str = "s") -> str:
    return f"it is cut short, {have:.10g} of {promised:.10g} {unit} are there"


def _missing_bytes(path: Path) -> int:
    """Return how many bytes an uncompressed file lacks, which libsndfile passes over in silence; 0 for other formats.

    Where RIFF (WAV), RF64, W64, AIFF and AU files state their length is in their specifications.
    """
    with path.open("rb") as file:
        head, size = file.read(32), file.seek(0, 2)
    if head[:4] == b"RIFF":
        stated, unknown = int.from_bytes(head[4:8], "little") + 8, UNKNOWN_BYTES
    elif head[:4] == b"FORM":
        stated, unknown = int.from_bytes(head[4:8], "big") + 8, UNKNOWN_BYTES
    elif head[:4] == b".snd":
        stated, unknown = int.from_bytes(head[4:8], "big") + int.from_bytes(head[8:12], "big"), UNKNOWN_BYTES
    elif head[:4] == b"RF64" and head[12:16] == b"ds64":
        stated, unknown = int.from_bytes(head[20:28], "little") + 8, UNKNOWN_BYTES_64
    elif head[:4] == b"riff":
        stated, unknown = int.from_bytes(head[16:24], "little"), UNKNOWN_BYTES_64
    else:
        return 0
    return stated - size if size + LOOSE_BYTES < stated < unknown else 0
