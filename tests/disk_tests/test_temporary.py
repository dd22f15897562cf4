"""Unfinished files: named so that no two processes meet, and found when their process is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.disk import process_identity, write_atomically
from harness.disk.temporary import OLD_S, drop_left_over, is_left_over, temporary_beside

KILLED = """
import os, sys
from pathlib import Path
from harness.disk.temporary import temporary_beside

path = temporary_beside(Path(sys.argv[1]))
path.mkdir() if sys.argv[2] == "folder" else path.write_bytes(b"half")
if path.is_dir():
    (path / "half").write_bytes(b"")
print(path.name, flush=True)
os.kill(os.getpid(), 9)
"""


def left_by_killed(path: Path, kind: str = "file") -> Path:
    """What a process that was killed has left beside `path`."""
    killed = subprocess.run([sys.executable, "-c", KILLED, path, kind], capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    return path.with_name(killed.stdout.strip())


@pytest.mark.parametrize("name", ["frozen.json", "a name\nof two lines", "7f.tmp", ".hidden", "è" * 90])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_goes_and_nothing_else(tmp_path: Path, name: str, kind: str) -> None:
    others = {
        temporary_beside(tmp_path / name),  # this process is still at it
        tmp_path / name,
        tmp_path / ".notes.tmp",  # somebody's own
        tmp_path / f".{name}.123.tmp",
    }
    for path in others:
        path.write_bytes(b"")
    left = left_by_killed(tmp_path / name, kind)
    assert left.exists() and left not in others
    drop_left_over(tmp_path)
    assert {*tmp_path.iterdir()} == others


def test_what_another_machine_left_goes_a_day_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its process lives cannot be seen from here; and this machine, started again, is another one."""
    left = left_by_killed(tmp_path / "weights")
    here = process_identity.this_process()
    monkeypatch.setattr("harness.disk.temporary.this_process", lambda: {**here, "boot": "a later one"})
    monkeypatch.setattr("harness.disk.temporary._machine", lambda: "0" * 8)
    drop_left_over(tmp_path)
    assert left.exists()
    yesterday = time.time() - OLD_S - 60
    os.utime(left, (yesterday, yesterday))
    drop_left_over(tmp_path)
    assert not left.exists()


def test_another_process_with_the_same_number_is_another_one(tmp_path: Path) -> None:
    """Numbers of processes are given again."""
    left = left_by_killed(tmp_path / "x")
    number = left.name.split("-")[1]
    taken = left.with_name(left.name.replace(f"-{number}-", f"-{os.getpid()}-"))
    left.rename(taken)
    assert is_left_over(taken) and not is_left_over(temporary_beside(tmp_path / "x"))


@pytest.mark.parametrize("name", ["x" * 255, "è" * 127, "\U0001f600" * 63])
def test_as_long_a_name_as_a_file_may_have(tmp_path: Path, name: str) -> None:
    """The longest that the file system takes, whatever stands beside it while it is written."""
    write_atomically(tmp_path / name, b"content")
    assert (tmp_path / name).read_bytes() == b"content"
    left = left_by_killed(tmp_path / name)
    drop_left_over(tmp_path)
    assert not left.exists() and [path.name for path in tmp_path.iterdir()] == [name]


def test_names_differ_in_a_process_too(tmp_path: Path) -> None:
    """Two threads may write the same file."""
    names = {temporary_beside(tmp_path / "x") for _ in range(1000)}
    assert len(names) == 1000


def test_a_folder_that_is_missing_or_a_file_keeps_what_it_has(tmp_path: Path) -> None:
    drop_left_over(tmp_path / "missing")
    write_atomically(tmp_path / "file", b"content")
    drop_left_over(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
