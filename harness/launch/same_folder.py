"""Whether a worker sees the results folder of its launch, and not another one under the same path.

A launch leaves a mark in the folder, a file that holds what nobody can guess, and tells its workers what that is: who
reads the same there sees the same folder. A path that is local on each machine gives each its own.
"""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from pathlib import Path

from harness.disk import name_new
from harness.disk.network import exists_now, read_whole
from harness.disk.temporary import temporary_beside
from harness.errors import TrialError

MARK = ".mark"
REFUSAL = "does not see the results folder of this launch"  # by these words it is found in a worker's log


def mark_of(folder: Path) -> str:
    """What the mark in a launch's folder holds; it is made where there is none, and stays for later launches.

    Raises:
        TrialError: the folder cannot be written to (reason `disk`).
    """
    path = folder / MARK
    try:
        if not exists_now(path):
            _make(path)
        return read_whole(path).decode()
    except OSError as error:
        raise TrialError("disk", f"{path}: cannot be written: {error.strerror}") from error


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = temporary_beside(path)
    try:
        made.write_text(secrets.token_hex(8), encoding="utf-8")
        with suppress(FileExistsError):  # of launches that begin at once, all tell their workers the first one's
            name_new(made, path)
    finally:
        made.unlink(missing_ok=True)


def sees(folder: Path, mark: str) -> bool:
    """Whether a folder is that of the launch that has told this worker its mark."""
    path = folder / MARK
    try:
        return exists_now(path) and read_whole(path).decode(errors="replace") == mark
    except OSError:
        return False


def not_seen(host: str, folder: Path, otherwise: str = "") -> str:
    """In words, that a machine does not see a launch's folder.

    Args:
        otherwise: what else can be done than to give another folder.
    """
    return f"{host} {REFUSAL}, {folder}; give --results a folder that all nodes share{otherwise}"


def not_seen_here(folder: Path) -> str:
    """That this machine does not see it."""
    return not_seen(socket.gethostname(), folder.absolute())
