"""Peak memory of a command: of its process and all that it started, together, sampled while they run. Loads no torch.

On Linux it is the sum of their proportional set sizes: a page that several processes share counts once, divided among
them. Elsewhere it is the sum of their resident set sizes, in which such a page counts for each. Peaks shorter than the
sampling interval may be missed.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.disk import append_line, read_lines
from harness.errors import TrialError
from harness.garbage import free_garbage
from harness.records.provenance import utc_now

INTERVAL_S = 2.0
PROC = Path("/proc")
PROPORTIONAL, RESIDENT = "proportional set size", "resident set size"
FILE = "memory.jsonl"  # in a sweep's folder: a line for each launch that trained


def give_back_free_memory() -> None:
    """Give the system what this process has freed: GNU's libc keeps it, and workers need it more.

    The checks and prices of a sweep on speech leave 1.4 GB behind (16 kinds of adapters, Whisper's encoder).
    """
    free_garbage()
    with suppress(OSError, AttributeError):  # another system, or another libc
        ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True)
class PeakUse:
    """The most memory that some processes had at once, in MB (2**20 bytes), how many they were, and what was added."""

    peak_mb: float
    num_processes: int
    measure: str

    @property
    def text(self) -> str:
        """In words."""
        if self.num_processes == 1:
            return f"{self.peak_mb:.0f} MB in 1 process ({self.measure})"
        return f"{self.peak_mb:.0f} MB in {self.num_processes} processes together (sum of {self.measure}s)"


class MemoryWatch:
    """Samples in a thread of its own from its beginning to its end, and at both; `peak` is None where nothing tells."""

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self.interval_s = interval_s
        self.peak: PeakUse | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stopped.wait(0.0 if self.peak is None else self.interval_s)
            found = sample()
            if found is None:
                return
            if self.peak is None or found.peak_mb > self.peak.peak_mb:
                self.peak = found


def sample() -> PeakUse | None:
    """What this process and its descendants use now; None where nothing tells."""
    pids = _descendants_in_proc(os.getpid())
    if pids is not None:
        sizes = [size for size in map(_proportional_mb, pids) if size is not None]
        if sizes:
            return PeakUse(sum(sizes), len(sizes), PROPORTIONAL)
    return _sample_ps(os.getpid())


def _descendants_in_proc(pid: int) -> list[int] | None:
    """A process and all below it; None where /proc does not list children."""
    try:
        tasks = list((PROC / str(pid) / "task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return None
    found = [pid]
    for child in children:
        found += _descendants_in_proc(child) or ()  # it ended just now
    return found


def _proportional_mb(pid: int) -> float | None:
    """None for a process that has ended, or of a system without the file."""
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), None)


def _sample_ps(pid: int) -> PeakUse | None:
    """By the `ps` that every POSIX system has, which is not counted itself."""
    try:
        asked = subprocess.Popen(["ps", "-A", "-o", "pid=,ppid=,rss="], stdout=subprocess.PIPE, text=True)
    except OSError:
        return None
    table, _ = asked.communicate()
    children: dict[int, list[int]] = defaultdict(list)
    sizes: dict[int, float] = {}
    for line in table.splitlines():
        child, parent, size = map(int, line.split())
        if child != asked.pid:
            children[parent].append(child)
            sizes[child] = size / 1024
    below = [pid]
    for each in below:  # grows while it is gone through
        below += children[each]
    found = [sizes[each] for each in below if each in sizes]
    return PeakUse(sum(found), len(found), RESIDENT) if found else None


@contextmanager
def watched_launch(folder: Path, num_jobs: int) -> Iterator[MemoryWatch]:
    """Watch a launch of a sweep, and add its peak to the sweep's folder when it ends, however it does.

    Raises:
        TrialError: the disk is full (`disk`), and nothing else went wrong.
    """
    watch = MemoryWatch()
    try:
        with watch:
            yield watch
    except BaseException:
        with suppress(TrialError):  # what went wrong first is what has to be seen
            _record(folder, watch.peak, num_jobs)
        raise
    _record(folder, watch.peak, num_jobs)


def _record(folder: Path, peak: PeakUse | None, num_jobs: int) -> None:
    if peak is None or not folder.is_dir():
        return
    content = {
        "at": utc_now(),
        "jobs": num_jobs,
        "peak_mb": round(peak.peak_mb, 1),
        "processes": peak.num_processes,
        "measure": peak.measure,
    }
    append_line(folder / FILE, content)


def read_peaks(folder: Path) -> list[PeakUse]:
    """The peaks of a sweep's launches, in the order of their ends.

    Raises:
        TrialError: a line is not JSON.
    """
    lines = read_lines(folder / FILE)
    return [PeakUse(float(line["peak_mb"]), int(line["processes"]), str(line["measure"])) for line in lines]
