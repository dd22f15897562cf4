"""Peak memory of a trial."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.training.memory import PeakMemory

MEGABYTES = 120


def touch_memory() -> None:
    np.ones(MEGABYTES * 2**20 // 8)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can reset a process's peak")
def test_a_peak_is_that_of_its_own_trial() -> None:
    touch_memory()
    memory = PeakMemory(torch.device("cpu"))
    quiet = memory.peak_mb()
    touch_memory()
    assert quiet + 0.8 * MEGABYTES < memory.peak_mb() < quiet + 2 * MEGABYTES
    assert PeakMemory(torch.device("cpu")).peak_mb() < quiet + 0.8 * MEGABYTES  # and the next one starts anew


def test_without_a_reset_it_is_the_peak_since_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import harness.training.memory as memory_module

    monkeypatch.setattr(memory_module, "_CLEAR", tmp_path / "no" / "such" / "file")
    found = PeakMemory(torch.device("cpu")).peak_mb()
    import resource

    expected = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert found == pytest.approx(expected / (2**20 if sys.platform == "darwin" else 2**10), rel=0.01)
