"""Lengths and samples of audio files: every kind that users have, and every way in which one can be broken."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from harness.data.audio_files import audio_seconds, read_audio
from harness.data.errors import DataError

RATE, SECONDS = 16000, 2.0
TONE = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(RATE * SECONDS)) / RATE)


def encode(path: Path, subtype: str | None = None, samples: object = TONE, **how: object) -> Path:
    soundfile.write(path, samples, RATE, subtype=subtype, **how)
    return path


def patched(path: Path, at: int, new: bytes) -> Path:
    """Overwrite some bytes of a file's header."""
    data = bytearray(path.read_bytes())
    data[at : at + len(new)] = new
    path.write_bytes(data)
    return path


def halved(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def stream(path: Path, total_samples: int = 0) -> Path:
    """A FLAC whose STREAMINFO states another number of samples: 0 is "unknown", as ffmpeg writes to a pipe."""
    encode(path)
    byte = path.read_bytes()[21] & 0xF0  # 36 bits, behind 4 of another field, 13 bytes into the block at 8
    return patched(path, 21, bytes([byte | total_samples >> 32]) + (total_samples & 0xFFFFFFFF).to_bytes(4, "big"))


@pytest.mark.parametrize(
    ("name", "subtype", "how"),
    [
        *[("a.wav", subtype, {}) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "ALAW", "ULAW")],
        ("a.wav", "PCM_24", {"format": "WAVEX"}),  # WAVE_FORMAT_EXTENSIBLE
        ("a.wav", "PCM_16", {"format": "RF64"}),
        ("a.w64", None, {}),
        ("a.aiff", None, {}),
        ("a.au", None, {}),
        ("a.flac", None, {}),
        ("a.ogg", "VORBIS", {}),
        ("a.opus", "OPUS", {"format": "OGG"}),
        ("a.mp3", None, {}),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_format_is_read(tmp_path: Path, name: str, subtype: str, how: dict[str, object], channels: int) -> None:
    path = encode(tmp_path / name, subtype, np.stack([TONE] * channels, axis=1), **how)
    samples, rate = read_audio(path)
    assert audio_seconds(path) == SECONDS and rate == RATE and samples.shape == TONE.shape
    assert np.abs(samples - TONE)[2000:-2000].max() < 0.02  # 8 bits and the lossy formats are that exact


def test_the_length_of_a_stream_is_counted(tmp_path: Path) -> None:
    whole, _ = read_audio(encode(tmp_path / "whole.flac"))
    for total in (0, (1 << 36) - 1):
        path = stream(tmp_path / "stream.flac", total)
        assert audio_seconds(path) == SECONDS
        assert np.array_equal(read_audio(path)[0], whole)
        assert np.array_equal(read_audio(path, (1.0, 0.5))[0], whole[RATE : RATE * 3 // 2])


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_of_a_pipe_is_whole(tmp_path: Path, length: int) -> None:
    path = encode(tmp_path / "a.wav")
    for at in (4, 40):
        patched(path, at, length.to_bytes(4, "little"))
    assert audio_seconds(path) == SECONDS and len(read_audio(path)[0]) == len(TONE)


def test_the_length_of_an_mp3_without_a_stated_one_is_counted(tmp_path: Path) -> None:
    loud_at_the_end = np.random.default_rng(0).standard_normal(160000) * np.repeat([1e-4, 0.3], 80000)
    how = {"bitrate_mode": "VARIABLE", "compression_level": 0.5}
    path = encode(tmp_path / "a.mp3", None, loud_at_the_end, **how)
    data = path.read_bytes()
    path.write_bytes(data[data.index(data[:2], 4) :])  # without its first frame, which states the length
    assert soundfile.info(path).duration > 20, "libsndfile guesses"
    assert audio_seconds(path) == pytest.approx(10.0, abs=0.1) == len(read_audio(path)[0]) / RATE


def test_a_segment_is_read(tmp_path: Path) -> None:
    whole, _ = read_audio(encode(tmp_path / "a.wav"))
    assert np.array_equal(read_audio(tmp_path / "a.wav", (0.25, 1.0))[0], whole[4000:20000])
    with pytest.raises(DataError, match=r"a\.wav: cannot be used as audio: it is cut short, 0\.5 of 1 s are there"):
        read_audio(tmp_path / "a.wav", (1.5, 1.0))


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.au", "a.w64", "a.rf64", "a.flac", "a.ogg", "a.mp3"])
def test_half_a_file_is_refused(tmp_path: Path, name: str) -> None:
    path = halved(encode(tmp_path / name, format="RF64" if name == "a.rf64" else None))
    with pytest.raises(DataError, match=rf"{name}: cannot be (read|used) as audio: .+"):
        read_audio(path)


@pytest.mark.parametrize("rate", [0, 1, 3999, 192_001, 0xFFFFFFFF])
def test_impossible_rates_are_refused(tmp_path: Path, rate: int) -> None:
    path = patched(encode(tmp_path / "a.wav"), 24, rate.to_bytes(4, "little"))
    for read in (audio_seconds, read_audio):
        with pytest.raises(DataError, match=r"a\.wav: cannot be (read|used) as audio: .+") as told:
            read(path)
        assert "\n" not in str(told.value)


def test_missing_files_folders_and_pipes(tmp_path: Path, make_tone: Callable[..., Path]) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "empty.wav").touch()
    for name, reason in {
        "missing.wav": "cannot be read as audio: No such file or directory",
        "pipe.wav": "cannot be read as audio: it is not a file",
        "folder.wav": "cannot be read as audio: it is not a file",
        "empty.wav": "cannot be read as audio: .+",
    }.items():
        with pytest.raises(DataError, match=f"{name}: {reason}"):
            audio_seconds(tmp_path / name)
