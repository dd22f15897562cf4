"""Reads TensorBoard's event files: each event behind its length and a checksum (TFRecord)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX.proto import event_pb2


def read_events(folder: Path) -> Iterator[Any]:
    """The events of the only event file under a folder."""
    (path,) = folder.rglob("events.out.tfevents.*")
    content, position = path.read_bytes(), 0
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        event = event_pb2.Event()
        event.ParseFromString(content[position + 12 : position + 12 + length])
        position += 12 + length + 4
        yield event


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> steps and values."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event in read_events(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found
