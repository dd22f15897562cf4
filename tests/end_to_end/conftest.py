"""Fixtures of the end-to-end tests: commands as processes that can be killed, and their records compared."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cli_tests.conftest import cli
from forked_commands import ForkedCommand
from tiny_text import TinyText

__all__ = ["cli"]

ROOT = Path(__file__).resolve().parents[2]
# As `harness` would start, but with a largest size of files: writing more fails as on a full disk.
WITH_LIMIT = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
runpy.run_module("harness", run_name="__main__")
"""

Process = subprocess.Popen[str] | ForkedCommand
Start = Callable[..., Process]


@pytest.fixture
def start(tiny_text_files: TinyText, own_caches: Path, tmp_path: Path) -> Iterator[Start]:
    """A function that starts `harness ARGS` in tmp_path as the leader of a process group, without waiting.

    It is forked from a process that has loaded what it needs: how it starts is held by all tests with `run_cli`.
    What it prints goes to pipes (read them with `communicate`). Whatever still runs at the end of the test is killed.
    """
    started: list[Process] = []

    def begin(*args: str | Path, largest_file: int | None = None, env: Mapping[str, str] | None = None) -> Process:
        environment = os.environ | dict(env or {}) | dict(tiny_text_files.env)
        environment |= {"PYTHONPATH": str(ROOT), "HOME": str(own_caches / "home"), "WANDB_MODE": "disabled"}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        arguments = [*map(str, args)]
        process: Process
        if largest_file is None and "LD_PRELOAD" not in environment:  # which a forked process does not read
            process = ForkedCommand(arguments, tmp_path, environment)
        else:
            program = ["-m", "harness"] if largest_file is None else ["-c", WITH_LIMIT, str(largest_file)]
            process = subprocess.Popen(
                [sys.executable, *program, *arguments],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield begin
    for process in started:
        kill_group(process)


def kill_group(process: Process) -> None:
    """SIGKILL to a started process and all that it started; waits until it is gone."""
    with contextlib.suppress(ProcessLookupError):  # it has ended, and all of its group; or it has no group yet
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.communicate()


def finish(process: Process) -> tuple[int | None, str, str]:
    """Wait for a started process: its exit code, and what it printed."""
    out, err = process.communicate(timeout=200)
    return process.returncode, out, err


def table_of(out: str) -> str:
    """The table that `harness run` printed, with its notes."""
    lines = out.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("┏")) - 1
    return "\n".join(lines[begin:])


def determined(results: Path) -> dict[str, dict[str, Any]]:
    """Everything in the records that the configs determine, to the bit; by trial."""
    found = {}
    for folder in sorted((results / "records").iterdir()):
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        del summary["costs"]
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        found[folder.name] = {
            "summary": summary,
            "log": [(entry["epoch"], entry["metrics"]) for entry in log],
            # A trial that only gives weights to others has none.
            "predictions": [path.read_bytes() for path in folder.glob("predictions.jsonl")],
            "weights": {path.name: path.read_bytes() for path in folder.glob("*.safetensors")},
            "config": (folder / "config.json").read_bytes(),
        }
    return found


def num_starts(results: Path) -> dict[str, int]:
    """How often each trial was started."""
    folders = (results / "records").iterdir()
    return {folder.name: len((folder / "starts.jsonl").read_bytes().splitlines()) for folder in folders}
