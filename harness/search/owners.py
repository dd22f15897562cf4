"""Identify the owner of a running trial, a store that a process has opened, and find out whether it is still alive."""

from __future__ import annotations

import os
import socket
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_open_stores: set[str] = set()  # of this process: a trial whose store was closed belongs to nobody


def new_owner() -> dict[str, Any]:
    """Identify a store that this process has just opened."""
    store = uuid.uuid4().hex
    _open_stores.add(store)
    return {**this_process(), "store": store}


def close_owner(owner: Mapping[str, Any]) -> None:
    """From now on what the owner holds belongs to nobody."""
    _open_stores.discard(owner["store"])


def is_dead(owner: Mapping[str, Any] | None, mine: Mapping[str, Any], *, is_silent: bool) -> bool:
    """Whether a trial's owner can no longer be training it.

    Args:
        owner: as claimed; None for a trial that something else than a store has claimed.
        mine: an owner of this process, in whose place the question is asked.
        is_silent: its heart has not beaten for the grace period; this decides where its process cannot be seen.
    """
    owner = owner or {}
    alive = is_alive(owner, mine)
    if alive is None:
        return is_silent
    if (owner["pid"], owner["started"]) == (mine["pid"], mine["started"]):
        return owner["store"] not in _open_stores
    return not alive


def is_alive(owner: Mapping[str, Any], here: Mapping[str, Any]) -> bool | None:
    """Whether an owner's process still runs; None where it is another machine's or container's, and cannot be seen.

    Args:
        here: `this_process()`, or an owner of it.
    """
    if any(owner.get(key) != here[key] for key in ("host", "boot")):
        return None
    return start_of(int(owner["pid"])) == owner.get("started")


def this_process() -> dict[str, Any]:
    """Identify this process among all processes of all machines, past and present."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        boot += f"/{os.readlink('/proc/self/ns/pid')}"  # containers count their processes separately
    except OSError:
        boot = ""
    return {"host": socket.gethostname(), "boot": boot, "pid": os.getpid(), "started": start_of(os.getpid())}


def start_of(pid: int) -> str | None:
    """When a process of this machine started, in whatever units; None if it is gone (a zombie is)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # a command may hold brackets
        return None if fields[0] in "ZX" else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
