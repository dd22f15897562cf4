"""All predictions of an experiment in one compressed file: `predictions.jsonl.xz`.

Inside, one after another: a JSON line {"folder", "trial_id", "bytes"}, then that many bytes, the trial's
predictions.jsonl. The trials of an experiment predict the same test items, so together they compress thirty times
better than each alone. Comparisons look at the content, never at the compressed bytes: another build of the compression
library may write other bytes for the same content.
"""

from __future__ import annotations

import json
import lzma
import tempfile
import weakref
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json

from harness.errors import UserError

PREDICTIONS = "predictions.jsonl.xz"
PRESET = 6  # a dictionary of 8 MiB: it spans some fifty trials
MAX_BYTES = 4 * 2**30  # unpacked; a small file that swells to more is refused
MAX_DECODER_BYTES = 64 * 2**20  # what a file may ask of memory for its dictionary
IN_MEMORY_BYTES = 64 * 2**20  # what is longer lies in a temporary file while it is read
CHUNK_BYTES = 2**18
NO_HEADER = "predictions without a line above them that names their trial"


def header(key: tuple[str, str], num_bytes: int) -> bytes:
    """The line above a trial's predictions."""
    content = {"folder": key[0], "trial_id": key[1], "bytes": num_bytes}
    return json.dumps(content, ensure_ascii=False).encode() + b"\n"


class PackedPredictions:
    """The predictions file of an experiment; it is unpacked at the first read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, key: tuple[str, str]) -> bytes | None:
        """A trial's predictions.jsonl; None where there is none.

        Raises:
            UserError: the file is missing or corrupt.
        """
        if key not in self._places:
            return None
        start, size = self._places[key]
        self._content.seek(start)
        return self._content.read(size)

    @cached_property
    def _content(self) -> IO[bytes]:
        content = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115  # closed with its owner
        weakref.finalize(self, content.close)
        num_bytes = 0
        for chunk in self._unpack():
            num_bytes += len(chunk)
            if num_bytes > MAX_BYTES:
                raise UserError(f"{self.path}: holds more than {MAX_BYTES:,} bytes of predictions; it is not read")
            content.write(chunk)
        return content

    def _unpack(self) -> Iterator[bytes]:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_DECODER_BYTES)
        try:
            with open(self.path, "rb") as file:
                while not decoder.eof:
                    fresh = file.read(CHUNK_BYTES) if decoder.needs_input else b""
                    if decoder.needs_input and not fresh:
                        raise UserError(f"{self.path}: the file is cut short; get it again from where it was published")
                    yield decoder.decompress(fresh, CHUNK_BYTES)
                if decoder.unused_data or file.read(1):
                    raise UserError(f"{self.path}: there is more after the end of the predictions")
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}") from error
        except lzma.LZMAError as error:
            raise UserError(f"{self.path}: not a readable .xz file ({error})") from error

    @cached_property
    def _places(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Key -> where its predictions start, and how many bytes they have."""
        places: dict[tuple[str, str], tuple[int, int]] = {}
        end = self._content.seek(0, 2)
        place = 0
        while place < end:
            self._content.seek(place)
            key, size = self._header(self._content.readline(4096))
            start = self._content.tell()
            place = start + size
            if key in places or place > end:
                problem = "appear twice" if key in places else "are cut short"
                raise UserError(f"{self.path}: the predictions of trial {'/'.join(key)} {problem}")
            places[key] = (start, size)
        return places

    def _header(self, line: bytes) -> tuple[tuple[str, str], int]:
        try:
            content: dict[str, Any] = from_json(line)
            key, size = (content["folder"], content["trial_id"]), content["bytes"]
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{self.path}: {NO_HEADER}") from error
        if not all(isinstance(part, str) for part in key) or type(size) is not int or size < 0:
            raise UserError(f"{self.path}: {NO_HEADER}")
        return key, size
