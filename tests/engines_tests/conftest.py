"""One thread, and a folder of the session's own for what is computed from audio files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _own_data_cache(data_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(data_cache))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
