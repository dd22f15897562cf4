"""Which process this is among all processes of all machines, and whether another one of this machine still runs."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


def this_process() -> Mapping[str, Any]:
    """Identify this process among all processes of all machines, past and present."""
    return _process(os.getpid())


@cache
def _process(pid: int) -> Mapping[str, Any]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        boot += f"/{os.readlink('/proc/self/ns/pid')}"  # containers count their processes separately
    except OSError:
        boot = ""
    return {"host": socket.gethostname(), "boot": boot, "pid": pid, "started": start_of(pid)}


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
