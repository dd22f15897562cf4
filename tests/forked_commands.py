"""Commands that are forked from a process that has loaded what they need, so that those of a test start at once."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any

LOADED = [
    *("torch._dynamo", "harness.launch.remote_worker", "harness.training.resources", "harness.training.run_trial"),
    *("harness.cli.main", "harness.cli.run", "harness.cli.sweep", "harness.sweep.plan", "harness.search.search"),
    *("harness.launch.run_experiment", "harness.tables.build", "harness.figures.sweep_figures"),
]
STREAMS = (1, 2)


class _Surrounded:
    """A function that is called in another process with what a process of this one would have from it.

    That is its environment, stdout and stderr; the other one was forked from a third.
    """

    def __init__(
        self,
        function: Callable[..., object],
        environment: Mapping[str, str] | None = None,
        streams: Sequence[int] = STREAMS,
    ) -> None:
        self.function, self.streams = function, streams
        self.environment = dict(os.environ if environment is None else environment)

    def __getstate__(self) -> Any:
        return self.function, self.environment, [DupFd(stream) for stream in self.streams]

    def __setstate__(self, state: Any) -> None:
        self.function, self.environment, self.given = state

    def __call__(self, *arguments: Any) -> None:
        os.environ.clear()
        os.environ.update(self.environment)
        for stream, given in zip(STREAMS, self.given, strict=True):
            own = given.detach()
            os.dup2(own, stream)
            os.close(own)
        # Python's own files were opened upon other ones, which may be no pipes.
        sys.stdout = open(STREAMS[0], "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(STREAMS[1], "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        self.function(*arguments)


def forking() -> Any:
    """The context of multiprocessing that forks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    return context


def _run_harness(folder: str, arguments: Sequence[str]) -> None:
    """What `python -m harness ARGUMENTS` does, in a process group of its own."""
    os.setsid()
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.argv = ["harness", *arguments]
    runpy.run_module("harness", run_name="__main__", alter_sys=True)


class ForkedCommand:
    """A running `harness ARGUMENTS`: what the tests use of a `subprocess.Popen`, with its output in pipes."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        pipes = [os.pipe() for _ in STREAMS]
        target = _Surrounded(_run_harness, environment, [writing for _, writing in pipes])
        self._process = forking().Process(target=target, args=(str(folder), list(arguments)), daemon=False)
        self._process.start()
        for _, writing in pipes:
            os.close(writing)
        self.pid: int = self._process.pid
        self._told = ["" for _ in STREAMS]
        # Read at once: a pipe holds little, and who writes to a full one waits.
        self._readers = [
            threading.Thread(target=self._read, args=(place, os.fdopen(reading, encoding="utf-8")), daemon=True)
            for place, (reading, _) in enumerate(pipes)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, place: int, file: IO[str]) -> None:
        with file:
            self._told[place] = file.read()

    @property
    def returncode(self) -> int | None:
        code: int | None = self._process.exitcode
        return code

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended, which whoever forked it tells a moment later
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait until nobody holds its pipes any more, then for its end; what it printed."""
        for thread in (*self._readers, self._process):
            thread.join(timeout)
        if self.poll() is None or any(reader.is_alive() for reader in self._readers):
            raise subprocess.TimeoutExpired("harness", timeout or 0.0)
        out, err = self._told
        return out, err
