"""How much memory is still free: of a GPU, else of what this process may use (the machine, or its control group).

In a container, or under Slurm, the machine's own numbers say nothing: the group's limit is what kills.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")
GROUPS = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def free_share(device: torch.device) -> float | None:
    """Free memory over all memory, 0 to 1, of the scarcest of what limits the process; None where nothing tells.

    Args:
        device: where trainings run. What torch keeps of a GPU's memory counts as used: it was needed once.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return free / total
    shares = [*_of_machine(), *_of_groups()]
    return min(shares, default=None)


def _of_machine() -> Iterator[float]:
    values = _numbers(MEMINFO, ":")
    if {"MemAvailable", "MemTotal"} <= values.keys():
        yield values["MemAvailable"] / values["MemTotal"]


def _of_groups() -> Iterator[float]:
    """Of the process's control groups that have a limit, versions 2 and 1; files that could be dropped are free."""
    for line in _read(GROUPS).splitlines():
        _, controllers, name = line.split(":", 2)
        if not controllers:
            root, names = MOUNT, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root, names = MOUNT / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = root / name.lstrip("/")
        for group in (folder, *folder.parents):
            limit, used = _read(group / names[0]).strip(), _read(group / names[1]).strip()
            if limit.isdigit() and used.isdigit() and int(limit) > 0:
                droppable = _numbers(group / "memory.stat", " ").get(names[2], 0)
                yield max(0.0, 1.0 - (int(used) - droppable) / int(limit))
            if group == root:
                break


def _numbers(path: Path, separator: str) -> dict[str, int]:
    """The lines `name separator number ...` of a file."""
    found = {}
    for line in _read(path).splitlines():
        name, _, rest = line.partition(separator)
        if rest.split() and rest.split()[0].isdigit():
            found[name] = int(rest.split()[0])
    return found


def _read(path: Path) -> str:
    """A file's text; nothing where there is none (another system, or not allowed here)."""
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
