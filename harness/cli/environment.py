"""The environment variables that every command depends on, checked before it begins."""

from __future__ import annotations

import math
import os
from pathlib import Path

from harness.errors import UserError, hide_passwords

FOLDERS = ("HARNESS_CACHE", "HARNESS_DATA", "HARNESS_ASTERISK_ROOT", "XDG_CACHE_HOME")
WANDB_MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")


def check_environment() -> None:
    """Refuse a variable that would only fail later, or be ignored by the library that reads it.

    Raises:
        UserError: one line with the variable, its value, and what it may be.
    """
    for name in FOLDERS:
        folder = os.environ.get(name)
        if folder and Path(folder).expanduser().exists() and not Path(folder).expanduser().is_dir():
            raise _wrong(name, "the path of a folder")
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads and not all(part.strip().isdecimal() and int(part) > 0 for part in threads.split(",")):
        raise _wrong("OMP_NUM_THREADS", "a number of threads of at least 1")
    if (size := os.environ.get("HARNESS_PREFIX_MB")) is not None and not _is_size(size):
        raise _wrong("HARNESS_PREFIX_MB", "a number of megabytes of at least 0")
    if (limit := os.environ.get("HARNESS_HANG_S")) and not (_is_size(limit) and 1 <= float(limit) <= 1e6):
        raise _wrong("HARNESS_HANG_S", "a number of seconds from 1 to 1000000")
    if os.environ.get("WANDB_MODE") not in (None, "", *WANDB_MODES):
        raise _wrong("WANDB_MODE", f"one of {', '.join(WANDB_MODES)}")
    os.environ["MPLBACKEND"] = "agg"  # no command opens a window, so none needs the backend of one


def _is_size(text: str) -> bool:
    try:
        return 0 <= float(text) < math.inf
    except ValueError:
        return False


def _wrong(name: str, expected: str) -> UserError:
    return UserError(
        f"the environment variable {name} is {hide_passwords(repr(os.environ[name]))}; expected {expected}"
    )
