"""The package's one use of soundfile: the length of an audio file, and its samples as an array. No torch here."""

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from harness.data.errors import DataError


def audio_seconds(path: Path) -> float:
    """Return the length of `path` in seconds, from its header; raises DataError when it cannot be read."""
    try:
        return float(soundfile.info(path).duration)
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: cannot be read as audio: {error.error_string}") from error


def read_audio(path: Path) -> tuple[NDArray[np.float32], int]:
    """Return the samples of `path` as float32 [samples] in -1..1 (channels averaged), and the rate in Hz.

    Raises DataError with path and reason when the file is missing, corrupt, empty or not finite.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: cannot be read as audio: {error.error_string}") from error
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read as audio: {error}") from error
    if len(samples) == 0:
        raise DataError(f"{path}: cannot be used as audio: it holds no samples")
    if not np.isfinite(samples).all():
        raise DataError(f"{path}: cannot be used as audio: it holds samples that are not finite")
    mono: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
    return mono, int(rate)


def write_audio(path: Path, samples: NDArray[np.int16], rate: int) -> None:
    """Write int16 `samples` [samples] at `rate` Hz as a 16-bit WAV file."""
    soundfile.write(path, samples, rate, subtype="PCM_16", format="WAV")
