"""Free memory: of the machine, of a container's control group, of a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.training import free_memory
from harness.training.free_memory import Limit, memory_limits, own_peak

CPU = torch.device("cpu")
MEMINFO = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 600 kB\nHugePages_Total: 0\n"


def free_share(device: torch.device) -> float | None:
    """Of the scarcest."""
    return min((limit.free / limit.total for limit in memory_limits(device)), default=None)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system without anything that tells."""
    monkeypatch.setattr(free_memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(free_memory, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(free_memory, "MOUNT", tmp_path / "fs")
    return tmp_path


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"memory.{name}").write_text(text)


def test_the_machines_own(system: Path) -> None:
    assert free_share(CPU) is None
    (system / "meminfo").write_text(MEMINFO)
    assert memory_limits(CPU) == [Limit(600 * 1024, 1000 * 1024)]


@pytest.mark.parametrize("group", ["/", "/job/step"])
def test_a_groups_limit(group: str, system: Path) -> None:
    """The scarcest of machine, group and the groups around it; a group without a limit does not count."""
    (system / "meminfo").write_text(MEMINFO)
    (system / "cgroup").write_text(f"0::{group}\n")
    folder = system / "fs" / group.strip("/")
    write(folder, max="max\n", current="900\n")
    assert free_share(CPU) == 0.6
    write(folder, max="1000\n", current="900\n", stat="anon 500\ninactive_file 200\n")
    assert free_share(CPU) == pytest.approx(0.3)
    write(system, max="10\n", current="10\n")  # outside of the mount
    assert free_share(CPU) == pytest.approx(0.3)
    write(system / "fs", max="2000\n", current="1900\n", stat="")
    assert free_share(CPU) == pytest.approx(0.05)


def test_the_first_version_of_control_groups(system: Path) -> None:
    (system / "cgroup").write_text("5:cpu,cpuacct:/job\n4:memory:/job\n0::/\n")
    folder = system / "fs" / "memory" / "job"
    write(folder, limit_in_bytes="1000", usage_in_bytes="700", stat="cache 1\ntotal_inactive_file 100\n")
    write(system / "fs" / "cpu,cpuacct" / "job", limit_in_bytes="1", usage_in_bytes="1")
    assert free_share(CPU) == pytest.approx(0.4)
    write(folder, limit_in_bytes="9223372036854771712")  # no limit
    assert free_share(CPU) == pytest.approx(1.0)


def test_a_gpu_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (25, 100))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 40)
    assert memory_limits(torch.device("cuda")) == [Limit(25, 100)] and own_peak(torch.device("cuda")) == 40


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="only Linux tells in /proc")
def test_here() -> None:
    share = free_share(CPU)
    assert share is not None and share < 1.0
    assert 20 * 2**20 < own_peak(CPU) < max(limit.total for limit in memory_limits(CPU))
