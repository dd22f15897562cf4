"""Files that are either there whole or not at all."""

from __future__ import annotations

import json
import os
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
        temporary.unlink(missing_ok=True)
        raise TrialError("disk", f"{path}: cannot be written: {error.strerror}") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON for people and programs: indented, keys in their order (arms keep theirs), no NaN."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def append_line(path: Path, content: Any) -> None:
    """Append one JSON line.

    Raises:
        TrialError: the disk is full or not writable (reason `disk`).
    """
    line = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise TrialError("disk", f"{path}: cannot be written: {error.strerror}") from error


def read_lines(path: Path) -> list[Any]:
    """Read JSON lines; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    entries = []
    for number, line in enumerate(lines):
        if not line:
            continue
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number >= len(lines) - 1:  # no newline behind it: the write was cut
                break
            raise TrialError("error", f"{path}:{number + 1}: not a JSON line") from error
    return entries
