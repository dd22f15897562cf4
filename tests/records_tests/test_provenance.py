"""What a record says that it was made with."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.records.provenance import git_state, machine, package_versions

ROOT = Path(__file__).parents[2]


def test_packages() -> None:
    found = package_versions()
    assert re.fullmatch(r"3\.\d+\.\d+.*", found["python"])
    for name in ("torch", "numpy", "jiwer"):
        assert found[name] == version(name)


def test_machine_does_not_name_the_host() -> None:
    found = machine()
    assert set(found) == {"system", "processor", "cores"}
    assert all(found.values())
    assert int(found["cores"]) >= 1
    assert socket.gethostname() not in found.values()


@pytest.mark.skipif(not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not in a git checkout")
def test_commit() -> None:
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    commit, dirty = git_state.__wrapped__()
    assert commit == head
    assert dirty in (True, False)


def test_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state.__wrapped__() == (None, None)
