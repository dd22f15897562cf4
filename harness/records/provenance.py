"""What a record was made with: code, packages, machine. Read once a process; no subprocess a trial."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "torchaudio", "transformers", "tokenizers", "numpy", "safetensors", "jiwer")


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Commit of the code and whether it has uncommitted changes (records aside); None outside a checkout."""
    folder = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str | None:
        try:
            result = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
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
    """Installed versions of the packages that shape a trial's numbers."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
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


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # no such file on this system: the platform module's name is all there is
    return platform.processor() or "unknown"
