"""How much memory is still free: of a GPU, else of what this process may use (the machine, or its control group).

In a container, or under Slurm, the machine's own numbers say nothing: the group's limit is what kills.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.training.memory import resident_peak

MEMINFO = Path("/proc/meminfo")
GROUPS = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")
FREE_SHARE = 0.2  # of the memory: a larger pack must leave as much


@dataclass(frozen=True)
class Limit:
    """Something that limits the process's memory: what is free of it, and all of it, in bytes."""

    free: float
    total: float


def memory_limits(device: torch.device) -> list[Limit]:
    """Every limit of a training's memory; empty where the system tells none (then a failed allocation has to).

    Args:
        device: where it runs. What torch keeps of a GPU's memory counts as used: it was needed once.
    """
    if device.type == "cuda":
        return [Limit(*torch.cuda.mem_get_info(device))]
    return [*_of_machine(), *_of_groups()]


def leaves_room(device: torch.device) -> bool:
    """Whether enough memory would be left if as much again were needed as this process has needed so far."""
    more = own_peak(device)
    return all(limit.free - more > FREE_SHARE * limit.total for limit in memory_limits(device))


def own_peak(device: torch.device) -> float:
    """The most that this process has needed, in bytes: resident memory, or what torch has reserved of the GPU."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_reserved(device))
    return float(resident_peak())


def _of_machine() -> Iterator[Limit]:
    values = _numbers(MEMINFO, ":")
    if {"MemAvailable", "MemTotal"} <= values.keys():
        yield Limit(1024 * values["MemAvailable"], 1024 * values["MemTotal"])


def _of_groups() -> Iterator[Limit]:
    """The limits of the process's control groups (versions 2 and 1); cached files that can be dropped count as free."""
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
                yield Limit(int(limit) - (int(used) - droppable), int(limit))
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
