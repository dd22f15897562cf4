"""Find out what a record is made with: code, packages, machine. Read once in a process, not for each trial."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchaudio", "transformers", "tokenizers", "numpy", "safetensors", "jiwer")


def utc_now() -> str:
    """The time as records have it: ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Commit of the code and whether it has uncommitted changes (records aside); None outside a checkout."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / "pyproject.toml").is_file():  # installed from a wheel, maybe inside a checkout of something else
        return None, None

    def git(*arguments: str) -> str | None:
        try:
            result = subprocess.run(
                # Without the lock that `status` takes to refresh the index: a killed trial must not leave it behind.
                ["git", "--no-optional-locks", "-C", str(folder), *arguments],
                capture_output=True,
                text=True,
                timeout=20,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return result.stdout.strip()

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None, None
    changes = git("status", "--porcelain", "--", "harness", "pyproject.toml")
    return commit, None if changes is None else bool(changes)


@cache
def package_versions() -> dict[str, str]:
    """Installed versions of the packages that shape every trial's numbers."""
    return {"python": platform.python_version(), **installed_versions(PACKAGES)}


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed, such as those that a trial's own classes come from."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def machine() -> dict[str, str]:
    """Processor, cores and system (no host name)."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor_name(),
        "cores": str(os.cpu_count()),
    }


def user_code(config: Any) -> dict[str, str]:
    """Module -> SHA-256 of its source, for every `_target_` of a config that is not this package's.

    The commit covers this package only; a strategy in a file of the user's own is told by its digest. Only modules that
    are loaded are looked at, as those are that a trial has used.
    """
    found = {}
    for target in _targets(config):
        parts = target.split(".")
        names = [".".join(parts[:size]) for size in range(len(parts) - 1, 0, -1)]
        module = next((sys.modules[name] for name in names if name in sys.modules), None)
        source = getattr(module, "__file__", None)
        if module is None or source is None or parts[0] == "harness":
            continue
        found[module.__name__] = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    return dict(sorted(found.items()))


def packages_of(config: Any) -> list[str]:
    """The packages, by name, that a config names classes of; those of single files among them."""
    return sorted({target.partition(".")[0] for target in user_modules(config)})


def user_modules(config: Any) -> list[str]:
    """The classes, by import path, that a config names outside of this package; nothing is imported."""
    return sorted({target for target in _targets(config) if target.partition(".")[0] != "harness"})


def _targets(config: Any) -> Iterator[str]:
    """Every `_target_` at any depth."""
    if isinstance(config, dict):
        if isinstance(config.get("_target_"), str):
            yield config["_target_"]
        for value in config.values():
            yield from _targets(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _targets(value)


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # no such file on this system: the platform module's name is all there is
    return platform.processor() or "unknown"
