"""Memory: the peak of one trial (of the GPU where it runs on one, else of the process), and errors when it runs out."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

from harness.errors import text_of

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: torch's CPU allocator raises a RuntimeError, in either wording."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = text_of(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)


def resident_peak() -> int:
    """The most resident memory that this process has had since it was started, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class PeakMemory:
    """Counts from its making. On Linux the process's peak is reset; elsewhere it is the peak since process start."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.init()  # type: ignore[no-untyped-call]  # before anything ran there, there would be nothing to reset
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            _CLEAR.write_text("5")  # resets VmHWM (man 5 proc)
            self._resettable = True
        except OSError:
            self._resettable = False  # another system, or not allowed here

    def peak_mb(self) -> float:
        """Peak in MB (2**20 bytes): resident memory, or memory allocated by torch on the GPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        if self._resettable:
            for line in _STATUS.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        return resident_peak() / 2**20
