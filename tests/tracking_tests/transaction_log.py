"""Reads wandb's offline transaction log (`run-ID.wandb`): what `wandb sync` would send.

The container is LevelDB's log format (blocks of 32 KiB; each piece has a checksum, a length and a type) behind a
header of seven bytes; the entries are wandb's own protobuf `Record`s. wandb no longer has a reader in Python.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

FILE_HEADER = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
PIECE_HEADER = struct.Struct("<IHB")  # CRC-32 of type and data, length, type
BLOCK = 32 * 1024
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class LoggedRun:
    """What a transaction log holds of a run."""

    run_id: str = ""
    group: str = ""
    job_type: str = ""
    name: str = ""
    project: str = ""
    tags: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


def read_finished_run(path: Path, timeout_s: float = 20.0) -> LoggedRun:
    """Replay a log; waits for its end, which wandb's service may write a moment after `finish` has returned."""
    deadline = time.monotonic() + timeout_s
    while (run := _replay(path)).exit_code is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert run.exit_code is not None, f"{path.name} does not say how the run ended"
    return run


def _replay(path: Path) -> LoggedRun:
    run = LoggedRun()
    for record in _read_records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            sent = record.run
            run.run_id, run.group, run.job_type = sent.run_id, sent.run_group, sent.job_type
            run.name, run.project, run.tags = sent.display_name, sent.project, tuple(sent.tags)
            run.config |= _values(sent.config.update)
        elif kind == "history":
            run.history.append(_values(record.history.item))
        elif kind == "summary":
            run.summary |= _values(record.summary.update)
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _read_records(path: Path) -> Iterator[Any]:
    """The records of a log, in order, as far as they are written."""
    content = path.read_bytes()
    assert FILE_HEADER.startswith(content[: len(FILE_HEADER)]), "not a transaction log of the known version"
    position, data = len(FILE_HEADER), b""
    while position < len(content):
        left_in_block = BLOCK - position % BLOCK
        if left_in_block < PIECE_HEADER.size:  # too small for a piece: padding
            position += left_in_block
            continue
        if len(content) - position < PIECE_HEADER.size:
            return
        checksum, length, kind = PIECE_HEADER.unpack_from(content, position)
        position += PIECE_HEADER.size
        piece = content[position : position + length]
        if len(piece) < length:
            return
        position += length
        assert zlib.crc32(bytes([kind]) + piece) == checksum, "corrupt transaction log"
        data = data + piece if kind in (MIDDLE, LAST) else piece
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(data)
            yield record


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
