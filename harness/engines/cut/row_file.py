"""Rows of numbers that all processes of a host compute once, together, and read from one mapped file.

    KEY.rows    the rows, one after another; a hole where none has been written
    KEY.marks   a mark a row: its checksum (0: not there yet), and when a process said that it computes it

A mark is written after its row, and whoever uses a row for the first time compares the two: a row that a crash left
half written, or that has changed on the disk, is computed again. So nothing waits for the disk. Claims only keep
processes from doing the same work: that of a process that has died is passed over after a while, and a row that two
processes compute is the same.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from harness.disk import NO_LINKS
from harness.disk.temporary import drop_left_over, temporary_beside
from harness.errors import TrialError

MARK = np.dtype([("checksum", "<u8"), ("claimed", "<f8")])
logger = logging.getLogger(__name__)


class RowFile:
    """A mapped file of rows, made where there is none of this size. Another process may use it at the same time.

    Args:
        path: `KEY.rows`.
        shape: of the table: [N, P, D].
        dtype: of the rows.

    Raises:
        OSError: the folder cannot be written to.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
        self.path = path
        self._has_told = False
        self.row_bytes = shape[1] * shape[2] * dtype.itemsize
        marks = path.with_suffix(".marks")
        sizes = {path: shape[0] * self.row_bytes, marks: shape[0] * MARK.itemsize}
        path.parent.mkdir(parents=True, exist_ok=True)
        found = [file.stat().st_size if file.exists() else None for file in sizes]
        # Whoever makes them makes the rows first: others that begin now see both, the rows alone, or nothing.
        if found not in ([None, None], [sizes[path], None], [*sizes.values()]):
            if found[0] is not None and found[0] != sizes[path]:
                logger.warning("%s: has %s bytes, expected %s; it is computed anew", path, found[0], sizes[path])
            for file in sizes:  # never made longer or shorter: others may have it mapped
                file.unlink(missing_ok=True)
        for file, size in sizes.items():
            if not file.exists():
                _make(file, size)
        os.utime(path)  # when it was last used
        in_use = os.open(marks, os.O_RDWR)
        weakref.finalize(self, os.close, in_use)
        # Of the very file that is mapped: by then, its name may be gone or another file's.
        self._rows = os.open(path, os.O_RDWR)
        weakref.finalize(self, os.close, self._rows)
        fcntl.flock(in_use, fcntl.LOCK_SH)  # see `make_room`
        self.marks = np.memmap(marks, dtype=MARK, mode="r+", shape=shape[0])
        table = torch.from_file(str(path), shared=True, size=sizes[path] // dtype.itemsize, dtype=dtype)
        self.table_NPD = table.reshape(shape)
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r", shape=(shape[0], self.row_bytes))

    def whole(self, places: Sequence[int]) -> list[int]:
        """Those of some rows that are there and are as they were written; the marks of damaged ones are taken away."""
        there = [place for place in places if self.marks["checksum"][place]]
        damaged = [place for place in there if self.marks["checksum"][place] != self._checksum(place)]
        if damaged:
            self.marks["checksum"][damaged] = 0
            if not self._has_told:
                logger.warning("%s: rows are damaged (the first: %s); they are computed anew", self.path, damaged[0])
            self._has_told = True
        return [place for place in there if place not in set(damaged)]

    def claim(self, places: Sequence[int], patience_s: float) -> bool:
        """Say that this process computes some rows; False where another one said so less than `patience_s` ago."""
        age_s = time.time() - self.marks["claimed"][places]
        if bool(((age_s >= 0) & (age_s < patience_s)).any()):
            return False
        self.marks["claimed"][places] = time.time()
        return True

    def reserve(self, places: Sequence[int]) -> None:
        """Claim disk for rows: writing to a mapped hole on a full disk would kill the process.

        Raises:
            TrialError: the disk is full (`disk`).
        """
        try:
            for place in places:
                os.posix_fallocate(self._rows, place * self.row_bytes, self.row_bytes)
        except OSError as error:
            raise TrialError("disk", f"{self.path}: cannot be written: {error.strerror}") from error

    def mark(self, places: Sequence[int]) -> None:
        """Say that rows have been written."""
        self.marks["checksum"][places] = [self._checksum(place) for place in places]
        self.marks["claimed"][places] = 0.0

    def _checksum(self, place: int) -> int:
        """CRC-32 of a row and its place, plus 1: a flipped bit changes it, and so does a row in another's place."""
        return 1 + zlib.crc32(self._bytes[place], place & 0xFFFFFFFF)


def _make(path: Path, size: int) -> None:
    """Make a file of a size, whole from its first moment on, unless another process has made it meanwhile.

    On a file system without hard links it may take the place of that one, which its maker then has for itself.
    """
    own = temporary_beside(path)
    try:
        with own.open("wb") as opened:
            opened.truncate(size)  # no more than a hole until something is written
        try:
            os.link(own, path)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            os.replace(own, path)
    finally:
        own.unlink(missing_ok=True)


def make_room(folder: Path, num_bytes: float, limit_bytes: float) -> None:
    """Remove files of a folder that no process uses, the longest unused first, until so many bytes more fit in it."""
    drop_left_over(folder)
    files = {path: path.stat() for path in folder.glob("*.rows") if path.exists()}
    used = sum(512 * stat.st_blocks for stat in files.values())  # without holes
    for path, stat in sorted(files.items(), key=lambda found: found[1].st_mtime):
        if used + num_bytes <= limit_bytes:
            return
        if _is_idle(path.with_suffix(".marks")):
            for file in (path, path.with_suffix(".marks")):
                file.unlink(missing_ok=True)
            used -= 512 * stat.st_blocks


def _is_idle(marks: Path) -> bool:
    try:
        with marks.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
