"""Wall time, CPU time and memory of a process and all its children. Standard library only: every contestant uses it.

CPU time and memory come from /proc, so that worker processes count whether or not they have ended (those that ended
and were waited for are in their parent's child times).
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SAMPLE_S = 0.25


def process_tree(root: int) -> list[int]:
    """A process and all its descendants that are alive."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = _read(entry / "stat")
            if stat:
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    tree = [root]
    for pid in tree:
        tree += children.get(pid, [])
    return tree


def cpu_seconds(root: int) -> float:
    """User and system time of the tree, ended children included."""
    total = 0
    for pid in process_tree(root):
        fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15])
    return total / TICKS_PER_S


def memory_mb(root: int) -> float:
    """Proportional set size of the tree (a shared page counts once), in MB of 2**20 bytes."""
    total = 0
    for pid in process_tree(root):
        for line in _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended meanwhile
        return ""


class Meter:
    """Measures what happens inside `with`: `wall_s`, `cpu_s`, `peak_mb`."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = self.peak_mb = 0.0
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while True:
            self.peak_mb = max(self.peak_mb, memory_mb(os.getpid()))
            if self._done.wait(SAMPLE_S):
                return

    def __enter__(self) -> Self:
        self.cpu_s = cpu_seconds(os.getpid())
        self.wall_s = time.perf_counter()
        self._sampler.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.wall_s = time.perf_counter() - self.wall_s
        self.cpu_s = cpu_seconds(os.getpid()) - self.cpu_s
        self._done.set()
        self._sampler.join()


def write_outcome(path: str, meter: Meter, trials: list[dict[str, Any]], **more: Any) -> None:
    """What a contestant hands back: costs, and every trial's metrics after each epoch.

    Args:
        trials: `{"number": int, "epochs": [{metric: value}, ...]}`.
    """
    content = {
        "wall_s": meter.wall_s,
        "cpu_s": meter.cpu_s,
        "peak_mb": meter.peak_mb,
        "trials": sorted(trials, key=lambda trial: trial["number"]),
        **more,
    }
    Path(path).write_text(json.dumps(content), encoding="utf-8")
