"""Fixtures of the data tests: fetched corpora (or a skip that says how to get them), and tiny audio files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.data import Corpus, is_fetched, load_corpus
from harness.data.audio_files import write_audio


def load_fetched(name: str) -> Corpus:
    """Return the corpus `name`, or skip the test where it was not fetched."""
    if not is_fetched(name):
        pytest.skip(f"corpus {name} is not fetched; run: harness data fetch {name}")
    return load_corpus(name)


@pytest.fixture(scope="session")
def asterisk() -> Corpus:
    """The real recordings."""
    return load_fetched("asterisk")


@pytest.fixture
def make_tone() -> Callable[..., Path]:
    """A function that writes a short tone as a WAV file and returns its path."""

    def make(path: Path, seconds: float = 0.5, rate: int = 8000, pitch: float = 440.0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(int(seconds * rate)) / rate
        write_audio(path, (8000 * np.sin(2 * np.pi * pitch * time)).astype(np.int16), rate)
        return path

    return make
