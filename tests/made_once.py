"""Expensive files of the tests, made once a run: the workers of pytest-xdist share them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name` of this run, filled by `make(folder)` in the first worker that asks; the others wait for it.

    Read what is in it, never change it: another worker may be reading.
    """
    base = factory.getbasetemp()  # with pytest-xdist a folder of this worker's own, inside that of the run
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made_once"
    root.mkdir(exist_ok=True)
    folder, done = root / name, root / f"{name}.done"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file closes, also that of a worker that was killed
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
