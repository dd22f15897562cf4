"""Reading what other machines write: over NFS a client believes for up to a minute what it saw before.

    asked for and not there    it is missing until the client asks the server again: opening its folder makes it do so
    replaced while it is read  the server no longer knows the file that was opened: "stale file handle", open it anew

Nothing of it changes anything on a disk of this machine.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

STALE = errno.ESTALE
MAX_REPLACED = 20  # so often a file may be replaced while it is read


def look_again(folder: str | Path) -> bool:
    """Have what this machine believes of a folder, and of those above it, compared with what is there; is it there?"""
    try:
        _open(folder)
        return True
    except FileNotFoundError:
        above = os.path.dirname(folder)
        if above in ("", str(folder)) or not look_again(above):
            return False
    except OSError:  # it may not be read, or is none: there is nothing to be seen
        return False
    try:
        _open(folder)
    except OSError:
        return False
    return True


def _open(folder: str | Path) -> None:
    os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))


def exists_now(path: str | Path) -> bool:
    """Whether there is a file, also where another machine has just written it."""
    return os.path.exists(path) or (look_again(os.path.dirname(path)) and os.path.exists(path))


def read_whole(path: str | Path) -> bytes:
    """The bytes of a file that others may replace while it is read.

    Raises:
        OSError: it cannot be read.
    """
    for _ in range(MAX_REPLACED):
        try:
            return _read(path)
        except OSError as error:
            if error.errno != STALE:
                raise
    return _read(path)


def _read(path: str | Path) -> bytes:
    with open(path, "rb") as file:
        return file.read()
