"""Peak memory of processes together: pages shared count once, children and theirs are seen, and it is kept."""

from __future__ import annotations

import gc
import mmap
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import TrialError
from harness.launch import process_memory
from harness.launch.process_memory import (
    PROPORTIONAL,
    RESIDENT,
    MemoryWatch,
    PeakUse,
    read_peaks,
    sample,
    watched_launch,
)

pytestmark = pytest.mark.slow

MEGABYTES = 96
HOLD = f"held = bytearray({MEGABYTES} * 2**20)"
MAP = "import mmap; file = open({!r}, 'rb'); held = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); sum(held[::4096])"
WAIT = "print('ready', flush=True); input()"
on_linux = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells in /proc")


@contextmanager
def child(code: str) -> Iterator[None]:
    """A process that has run some code, and ends with the context."""
    command = [sys.executable, "-c", f"{code}\n{WAIT}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            process.stdin.write("\n")
            process.stdin.close()


def measured() -> PeakUse:
    gc.collect()
    found = sample()
    assert found is not None
    return found


@pytest.fixture(params=[pytest.param("proc", marks=on_linux), "ps"])
def measure(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to measure."""
    if request.param == "ps":
        monkeypatch.setattr(process_memory, "PROC", tmp_path / "none")
        return RESIDENT
    return PROPORTIONAL


def test_children_and_their_children_are_seen(measure: str) -> None:
    """A child, and a child of a child that holds memory, while they live."""
    before = measured()
    assert before.measure == measure and before.peak_mb > 10
    code = f"import subprocess, sys\nwith subprocess.Popen([sys.executable, '-c', {HOLD + chr(10) + WAIT!r}]): pass"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        during = measured()
        process.stdin.write("\n")
        process.stdin.close()
    assert during.num_processes == before.num_processes + 2
    assert MEGABYTES < during.peak_mb - before.peak_mb < 2 * MEGABYTES
    assert measured().num_processes == before.num_processes


def test_a_shared_page_counts_once_where_that_is_known(measure: str, tmp_path: Path) -> None:
    """A file mapped by two processes: once in proportional set sizes, twice in resident ones."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * (MEGABYTES * 2**20))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as held, child("pass"):
        sum(held[::4096])
        before = measured()
        with child(MAP.format(str(path))):
            grown = measured().peak_mb - before.peak_mb
    assert (grown < 0.5 * MEGABYTES) == (measure == PROPORTIONAL)


def test_a_peak_between_beginning_and_end(measure: str) -> None:
    """The watch keeps the largest of its samples."""
    with MemoryWatch(interval_s=0.01) as watch:
        while watch.peak is None:
            time.sleep(0.001)
        before = watch.peak.peak_mb
        with child(HOLD):
            deadline = time.monotonic() + 60
            while watch.peak.peak_mb < before + MEGABYTES and time.monotonic() < deadline:
                time.sleep(0.001)
    assert watch.peak.peak_mb > before + MEGABYTES and watch.peak.measure == measure


def test_where_nothing_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_memory, "PROC", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    with watched_launch(tmp_path, 1) as watch:
        pass
    assert watch.peak is None and read_peaks(tmp_path) == []


def test_a_launch_leaves_its_peak(tmp_path: Path) -> None:
    """Also one that fails; none where the sweep never made its folder."""
    with watched_launch(tmp_path / "none", 1):
        pass
    assert not (tmp_path / "none").exists()
    with watched_launch(tmp_path, 2) as first:
        pass
    with pytest.raises(ValueError, match="stopped"), watched_launch(tmp_path, 2) as second:
        raise ValueError("stopped")
    assert first.peak is not None and second.peak is not None
    found = read_peaks(tmp_path)
    assert [(peak.num_processes, peak.measure) for peak in found] == [
        (peak.num_processes, peak.measure) for peak in (first.peak, second.peak)
    ]
    assert [peak.peak_mb for peak in found] == pytest.approx([first.peak.peak_mb, second.peak.peak_mb], abs=0.06)


def test_a_full_disk_is_told_unless_something_else_went_wrong(tmp_path: Path) -> None:
    (tmp_path / process_memory.FILE).mkdir()
    with pytest.raises(TrialError, match="cannot be written"), watched_launch(tmp_path, 1):
        pass
    with pytest.raises(ValueError, match="stopped"), watched_launch(tmp_path, 1):
        raise ValueError("stopped")


def test_words() -> None:
    assert PeakUse(512.4, 1, PROPORTIONAL).text == "512 MB in 1 process (proportional set size)"
    assert PeakUse(2048.0, 3, RESIDENT).text == "2048 MB in 3 processes together (sum of resident set sizes)"


FREED = """
from harness.launch.process_memory import give_back_free_memory

def resident_mb():
    return sum(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) / 1024

before = resident_mb()
blocks = [b"x" * (100_000 + number) for number in range(3_000)]
kept = blocks[-1]
del blocks
held = resident_mb()
give_back_free_memory()
print(held - before, resident_mb() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only GNU's libc keeps what was freed")
def test_what_was_freed_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    held, left = map(float, done.stdout.split())
    assert held > 250  # otherwise there was nothing to give back
    assert left < 50
