"""Peak memory of a trial."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.training.memory import PeakMemory, is_out_of_memory

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


def test_what_an_allocator_raises_is_told_from_other_errors() -> None:
    """torch's own error (more than any address space has), its CUDA class, Python's; and errors that are others."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to ..."))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory")) and is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("not enough memory"))
