"""Files that are either there whole or not at all; and JSON of others, read with care."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from harness.disk.network import read_whole
from harness.disk.temporary import temporary_beside
from harness.errors import TrialError, first_line

LOCK_S = 60.0  # how long a file is waited for that another process appends to, which may be stopped
NUM_SYNCED_AT_ONCE = 4
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)  # a file system without hard links


def read_mapping(path: Path) -> dict[str, Any]:
    """A JSON object from a file that somebody else wrote.

    Raises:
        ValueError: it cannot be read, or is something else; the reason in one line, without the path.
    """
    try:
        content = json.loads(read_whole(path).decode())
    except OSError as error:
        raise ValueError(error.strerror or type(error).__name__) from error
    except (ValueError, RecursionError) as error:  # no JSON, or brackets in brackets in brackets
        raise ValueError(first_line(error)) from error
    if not isinstance(content, dict):
        raise ValueError("no mapping")
    return content


def write_atomically(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write to a temporary file beside `path`, sync it, rename it over.

    Args:
        sync: without it a power cut may leave the file empty; a kill may not.

    Raises:
        TrialError: the disk is full or not writable (reason `disk`); whatever was at `path` is untouched.
    """
    write_together({path: content}, sync=[path] if sync else [])


def write_together(contents: Mapping[Path, bytes], sync: Sequence[Path]) -> None:
    """Write several files, each as `write_atomically` does, and wait for the disk once.

    All temporary files are written and synced before the first is renamed, and they are renamed in their order: whoever
    finds the last of the files finds whatever `sync` names whole, also after a power cut.

    Args:
        sync: those that are synced; also other files, which must be on the disk before any of `contents` is seen.

    Raises:
        TrialError: the disk is full or not writable (reason `disk`).
    """
    temporary = {path: temporary_beside(path) for path in contents}
    path = next(iter(contents))
    try:
        for path, content in contents.items():
            with open_making_folders(temporary[path], "wb") as file:
                file.write(content)
        sync_files([temporary.get(path, path) for path in sync])
        for path in contents:
            os.replace(temporary[path], path)
    except OSError as error:
        for unfinished in temporary.values():
            with suppress(OSError):  # the folder itself may not be one
                unfinished.unlink(missing_ok=True)
        raise TrialError("disk", f"{path}: cannot be written: {error.strerror}") from error


def name_new(temporary: Path, path: Path) -> None:
    """Give a whole file a second name that no other file has; of several processes that try, one gets it.

    It is linked, so nobody ever sees a part of it. On a file system without hard links its content is written anew.

    Raises:
        FileExistsError: another file has the name.
        OSError: it cannot be written.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        if os.stat(temporary).st_nlink != 2:  # else over NFS: the server's answer was lost, and it was asked again
            raise
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _write_new(path, temporary.read_bytes())


def _write_new(path: Path, content: bytes) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except PermissionError as error:  # over sshfs it may only mean that the file exists
        if path.exists():
            raise FileExistsError(error.errno, error.strerror, str(path)) from error
        raise
    try:
        os.write(file, content)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)


def sync_files(paths: Sequence[Path]) -> None:
    """Have files on the disk, whatever happens to the machine. All at once: they share one wait (and one journal)."""
    if len(paths) == 1:
        _sync(paths[0])
    elif paths:
        list(_syncing().map(_sync, paths))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@cache
def _syncing() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(NUM_SYNCED_AT_ONCE, "sync")


def open_making_folders(path: Path, mode: str) -> IO[bytes]:
    """Open a file for writing; the folders above it are made where they are missing."""
    try:
        return open(path, mode)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, mode)


def json_bytes(content: Any) -> bytes:
    """JSON for people and programs: indented, keys in their order (arms keep theirs), no NaN."""
    return _encoded(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _encoded(text: str) -> bytes:
    # Half of a surrogate pair is no UTF-8; the escape that takes its place is JSON's own, and reads back as it was.
    return text.encode(errors="backslashreplace")


def write_json(path: Path, content: Any, *, sync: bool = True) -> None:
    """Write `json_bytes` of some content; see `write_atomically`."""
    write_atomically(path, json_bytes(content), sync=sync)


def append_line(path: Path, content: Any) -> None:
    """Append one JSON line, of several processes one after another.

    It takes the place of a line that was cut short (by a kill, or a full disk).

    Raises:
        TrialError: the disk is full or not writable (reason `disk`).
    """
    line = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        with open_making_folders(path, "a+b") as file:
            _lock(file)
            _drop_cut_line(file)
            file.write(_encoded(line) + b"\n")
    except OSError as error:
        raise TrialError("disk", f"{path}: cannot be written: {error.strerror}") from error


def _lock(file: IO[bytes]) -> None:
    """Keep others from appending until the file is closed: over NFS each machine has its own idea of where it ends."""
    try:
        import fcntl
    except ImportError:  # no Unix
        return
    deadline = time.monotonic() + LOCK_S
    while time.monotonic() < deadline:  # who holds it may be stopped
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.002)
        except OSError:  # a file system without locks
            return
        else:
            return


def _drop_cut_line(file: IO[bytes]) -> None:
    """Shorten a file to its last line end; looks at its last byte only where nothing is cut."""
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


def read_lines(path: Path) -> list[Any]:
    """Read JSON lines; a last line cut short (without its line end) is left out.

    Raises:
        TrialError: a line before the last one is not JSON (reason `error`).
    """
    return parse_lines(read_whole(path), str(path)) if path.exists() else []


def parse_lines(content: bytes, place: str) -> list[Any]:
    """Parse JSON lines as `read_lines` does; `place` is what an error names.

    Raises:
        TrialError: a line before the last one is not JSON (reason `error`).
    """
    *lines, _ = content.split(b"\n")  # bytes: a cut may go through the middle of a character
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            raise TrialError("error", f"{place}:{number}: not a JSON line") from error
    return entries
