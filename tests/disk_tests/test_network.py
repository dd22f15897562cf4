"""What a network file system does to readers, without one: names that stay missing for a while, and stale handles."""

from __future__ import annotations

import builtins
import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness.disk
from harness.disk import append_line, network, read_lines
from harness.disk.network import exists_now, look_again, read_whole
from harness.records.frozen import FROZEN, read_frozen
from harness.records.trial_folder import TrialFolder


@pytest.fixture
def believing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that makes this process a client that believes some paths are missing until it opens a folder."""
    missing: dict[str, str] = {}
    real_open, real_exists, real_file = os.open, os.path.exists, builtins.open

    def believe(*paths: Path) -> None:
        missing.update({str(path): str(path.parent) for path in paths})

    def refuse(path: Any) -> None:
        if any(f"{path}/".startswith(f"{name}/") for name in missing):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    def open_folder(path: Any, flags: int, *given: Any, **more: Any) -> int:
        refuse(path)
        descriptor = real_open(path, flags, *given, **more)
        for name, folder in list(missing.items()):
            if folder == str(path) and flags & os.O_DIRECTORY:
                del missing[name]
        return descriptor

    def open_file(path: Any, *given: Any, **more: Any) -> Any:
        refuse(path)
        return real_file(path, *given, **more)

    def exists(path: Any) -> bool:
        return not any(f"{path}/".startswith(f"{name}/") for name in missing) and real_exists(path)

    monkeypatch.setattr(os, "open", open_folder)
    monkeypatch.setattr(builtins, "open", open_file)
    monkeypatch.setattr(os.path, "exists", exists)
    return believe


def test_what_another_machine_wrote_is_found(tmp_path: Path, believing: Callable[..., None]) -> None:
    path = tmp_path / "records" / "t" / "summary.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"trial_id": "t", "state": "failed", "epochs_run": 0}', encoding="utf-8")
    believing(path)
    assert not os.path.exists(path) and exists_now(path)
    believing(path, path.parent, path.parent.parent)  # a client that saw nothing of the experiment
    assert exists_now(path)
    for ask in (TrialFolder.is_finished, TrialFolder.summary):
        believing(path, path.parent)
        assert ask(TrialFolder(path.parent))


def test_winners_that_another_machine_chose_are_found(tmp_path: Path, believing: Callable[..., None]) -> None:
    (tmp_path / FROZEN).write_text("[]", encoding="utf-8")
    believing(tmp_path / FROZEN)
    with pytest.raises(Exception, match=FROZEN):  # it was read
        read_frozen(tmp_path)


def test_what_is_missing_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert look_again(tmp_path) and not look_again(tmp_path / "none" / "below") and not look_again(tmp_path / "file")
    assert not exists_now(tmp_path / "none" / "below" / "it") and not exists_now("none_of_this_name")


@pytest.mark.parametrize("num_replaced", [0, 3, 1000])
def test_a_file_that_is_replaced_while_it_is_read(
    tmp_path: Path, num_replaced: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    read, left = network._read, [num_replaced]

    def read_stale(path: Any) -> bytes:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(path)

    monkeypatch.setattr(network, "_read", read_stale)
    if num_replaced < network.MAX_REPLACED:
        assert read_whole(tmp_path / "file") == b"content"
    else:
        with pytest.raises(OSError, match="Stale file handle"):
            read_whole(tmp_path / "file")


def test_who_appends_waits_for_whoever_does(tmp_path: Path) -> None:
    """Over NFS each machine has its own idea of where the file ends, so lines would be written over one another."""
    path, held_s = tmp_path / "lines.jsonl", 0.3
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        other = threading.Thread(target=append_line, args=(path, {"a": 1}))
        other.start()
        time.sleep(held_s)
        assert path.read_bytes() == b""
    other.join(timeout=20)
    assert read_lines(path) == [{"a": 1}]


@pytest.mark.parametrize("fault", ["a stopped process", "no locks"])
def test_appending_without_a_lock(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines.jsonl"
    monkeypatch.setattr(harness.disk, "LOCK_S", 0.05)
    if fault == "no locks":

        def refuse(*args: Any) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refuse)
    with path.open("a+b") as file:
        if fault != "no locks":
            fcntl.flock(file, fcntl.LOCK_EX)
        append_line(path, {"a": 1})
    assert read_lines(path) == [{"a": 1}]
