"""Files that are either there whole or not at all."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.errors import TrialError


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary file beside `path`, sync it, rename it over.

    Raises:
        TrialError: the disk is full or not writable (reason `disk`); whatever was at `path` is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):  # the folder itself may not be one
            temporary.unlink(missing_ok=True)
        raise TrialError("disk", f"{path}: cannot be written: {error.strerror}") from error


def json_bytes(content: Any) -> bytes:
    """JSON for people and programs: indented, keys in their order (arms keep theirs), no NaN."""
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_json(path: Path, content: Any) -> None:
    """Write `json_bytes` of some content."""
    write_atomically(path, json_bytes(content))


def append_line(path: Path, content: Any) -> None:
    """Append one JSON line; takes the place of a line that was cut short (by a kill, or a full disk).

    Raises:
        TrialError: the disk is full or not writable (reason `disk`).
    """
    line = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(line.encode() + b"\n")
    except OSError as error:
        raise TrialError("disk", f"{path}: cannot be written: {error.strerror}") from error


def read_lines(path: Path) -> list[Any]:
    """Read JSON lines; a last line cut short (without its line end) is left out.

    Raises:
        TrialError: a line before the last one is not JSON (reason `error`).
    """
    if not path.exists():
        return []
    *lines, _ = path.read_bytes().split(b"\n")  # bytes: a cut may go through the middle of a character
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            raise TrialError("error", f"{path}:{number}: not a JSON line") from error
    return entries
