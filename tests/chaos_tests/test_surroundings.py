"""The disk, the folder and the clock go wrong under a real sweep, and are mended: the same command goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from end_to_end.conftest import Process, finish

from .conftest import Victim, odd_lines, rng_of

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(0)]

COMPILER = shutil.which("cc") or shutil.which("gcc")
# A process's clock, off by the seconds in a file. (libfaketime has that, too, but with it Python cannot
# sleep.) The times of files stay those of the system, as on a network file system.
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now), file = clock == CLOCK_REALTIME ? open(getenv("CLOCK_FILE"), O_RDONLY) : -1;
    char text[32] = "";
    if (file >= 0) {
        if (read(file, text, 31) > 0) now->tv_sec += atol(text);
        close(file);
    }
    return failed;
}
"""


def mount(*options: str) -> None:
    subprocess.run(["mount", *options], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own, for whom may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=50m", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this process may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path, room: int) -> None:
    """Fill a file's disk, but for so many bytes."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(path, path.stat().st_size - room)


def ended_in_one_line(victim: Victim, process: Process, reason: str) -> None:
    """The launch has ended with code 1 and a line with the reason for each trial that was under way."""
    code, out, err = finish(process)
    assert code in (1, 2) and reason in err, err
    assert "Traceback" not in out + err and all(line.startswith("harness: ") for line in err.splitlines())


@pytest.mark.chaos
def test_a_full_disk(victim: Callable[..., Victim], disk: Path) -> None:
    """It fills at a random moment; there is room again."""
    rng, sweep = rng_of("full"), victim(results=disk / "r")
    (disk / "r").mkdir()
    for _ in range(2):
        process = sweep.begin()
        assert sweep.wait(process, rng.randint(0, 5))
        fill(disk / "filler", rng.choice([0, 4096, 20_480]))
        ended_in_one_line(sweep, process, "No space left on device")
        sweep.note("disk full")
        (disk / "filler").unlink()
    sweep.end()


def test_a_folder_that_turns_read_only(victim: Callable[..., Victim], disk: Path) -> None:
    rng, sweep = rng_of("read only"), victim(results=disk / "r")
    (disk / "r").mkdir()
    process = sweep.begin()
    assert sweep.wait(process, rng.randint(1, 6))
    while subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True).returncode:
        time.sleep(0.01)  # a file is just being written
    ended_in_one_line(sweep, process, "Read-only file system")
    sweep.note("read-only folder")
    ended_in_one_line(sweep, sweep.begin(), "may not be written")
    mount("-o", "remount,rw", str(disk))
    sweep.end()


@pytest.mark.chaos
def test_a_folder_that_is_taken_away(victim: Callable[..., Victim]) -> None:
    """With all that was finished: it is trained again, and nothing is mixed up."""
    rng, sweep = rng_of("removed"), victim()
    process = sweep.begin()
    assert sweep.wait(process, rng.randint(3, 12))
    away = sweep.results.with_name("away")
    sweep.results.rename(away)
    sweep.kept.clear()
    _, out, err = finish(process)
    assert "Traceback" not in out + err and all(line.startswith("harness: ") for line in err.splitlines())
    sweep.note("folder removed")
    sweep.end()
    shutil.rmtree(away)


@pytest.mark.chaos
@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_clocks_that_jump(victim: Callable[..., Victim], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two launches whose clocks are a day apart and jump, over a folder whose server has a clock of its own."""
    rng, sweep = rng_of("clocks"), victim()
    (tmp_path / "clock.c").write_text(CLOCK, encoding="utf-8")
    library = tmp_path / "clock.so"
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    clocks = [tmp_path / "clock0", tmp_path / "clock1"]
    processes = []
    for clock, offset_s in zip(clocks, (-10_800, 93_600), strict=True):
        clock.write_text(str(offset_s), encoding="utf-8")
        monkeypatch.setenv("CLOCK_FILE", str(clock))
        processes.append(sweep.begin())
    monkeypatch.delenv("LD_PRELOAD")
    while any(process.poll() is None for process in processes):
        sweep.wait(processes[0], rng.randint(1, 4), 0.5)
        clocks[rng.randrange(2)].write_text(str(rng.choice([-86_400, -3600, 40, 3600, 400_000])), encoding="utf-8")
        sweep.note("clock jump")
    for process in processes:
        sweep.has_ended(process)


def test_leases_that_are_stolen(victim: Callable[..., Victim], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine takes a trial over that is being trained here, and then dies without a word."""
    monkeypatch.setenv("HARNESS_LEASE_S", "1")
    rng, sweep = rng_of("leases"), victim()
    process = sweep.begin()
    for _ in range(3):
        if not sweep.wait(process, rng.randint(1, 4)):
            break
        held = [path for path in sweep.results.glob("*/*/.lease.*") if path.suffix[1:].isdigit()]
        if held:
            path = rng.choice(held)
            thief = {"host": "elsewhere", "boot": "1", "pid": 1, "started": "1", "token": "x", "lease_s": 1}
            path.with_name(f".lease.{int(path.suffix[1:]) + 1}").write_text(json.dumps(thief), encoding="utf-8")
            sweep.note("lease stolen")
    code, _, err = finish(process)
    assert code == 0 and not odd_lines(err), err
    sweep.end()  # the thief's last lease has run out, and goes
