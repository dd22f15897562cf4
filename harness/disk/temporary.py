"""Files that are not whole yet: their names say whose they are, so what killed processes have left is known for it."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from harness.disk.process_identity import start_of, this_process

OLD_S = 24 * 3600.0
"""After so long a file of another machine is left over: whether its process lives cannot be seen from here."""
SHOWN_BYTES = 100  # a name may have 255 in all

_NAME = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<started>[0-9a-f]{8})-\d+\.tmp", re.DOTALL)
_count = itertools.count()


def temporary_beside(path: Path) -> Path:
    """A hidden name beside `path` for what will be renamed to it: no other process, of whichever machine, takes it."""
    pid = os.getpid()
    shown = os.fsencode(path.name)[:SHOWN_BYTES].decode(errors="ignore")  # for people: what is behind it is unique
    return path.with_name(f".{shown}.{_machine()}-{pid}-{_short(this_process()['started'])}-{next(_count)}.tmp")


def drop_left_over(folder: Path) -> None:
    """Take away what processes that are gone have left unfinished in a folder; what is in folders below stays.

    What a process of this machine left goes at once, that of another one a day after it was last written. A folder that
    may not be written to keeps what it has.
    """
    with suppress(OSError):
        for name in os.listdir(folder):
            if name.endswith(".tmp") and is_left_over(folder / name):
                _remove(folder / name)


def is_left_over(path: Path) -> bool:
    """Whether a file (or folder) has a name of `temporary_beside` and its process is gone."""
    found = _NAME.fullmatch(path.name)
    if found is None:
        return False
    if found["machine"] == _machine():
        return _short(start_of(int(found["pid"]))) != found["started"]
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > OLD_S
    return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@cache
def _machine() -> str:
    """This machine since it was last started; containers, which count their processes separately, are machines too."""
    me = this_process()
    return _short(f"{me['host']}/{me['boot']}")


def _short(text: str | None) -> str:
    return hashlib.sha256((text or "").encode()).hexdigest()[:8]
