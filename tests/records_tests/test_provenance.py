"""What a record says that it was made with."""

from __future__ import annotations

import hashlib
import importlib
import re
import shutil
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.records.provenance import git_state, machine, package_versions, user_code

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


@pytest.mark.skipif(not (ROOT / ".git").is_dir() or shutil.which("git") is None, reason="not in a git checkout")
def test_asking_git_takes_no_lock() -> None:
    """A lock (a file that somebody else may hold, or that a killed trial leaves) does not matter, and none is made."""
    source, index = ROOT / "pyproject.toml", ROOT / ".git" / "index"
    source.touch()  # as far as the index knows it may have changed: `git status` alone would rewrite the index
    before = index.stat().st_mtime_ns, index.stat().st_ino
    assert git_state.__wrapped__()[0] is not None
    assert (index.stat().st_mtime_ns, index.stat().st_ino) == before


def test_user_code_is_told_by_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_for_provenance.py").write_text("class Strategy: ...\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    config = {
        "_target_": "harness.adapters.LinearAdapter",
        "adapter_strategy": {"_target_": "mine_for_provenance.Strategy", "list": [{"_target_": "json.JSONDecoder"}]},
    }
    assert "mine_for_provenance" not in user_code(config)  # not loaded: nothing has used it
    importlib.import_module("mine_for_provenance")
    digest = hashlib.sha256(b"class Strategy: ...\n").hexdigest()
    assert user_code(config)["mine_for_provenance"] == digest
    assert not any(name.startswith("harness") for name in user_code(config))
    assert user_code(None) == {}


def test_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state.__wrapped__() == (None, None)
