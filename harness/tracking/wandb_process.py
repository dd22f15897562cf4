"""W&B in a process of its own: a training pays a message for each event, and waits for no run's start or end.

A run costs wandb some twenty milliseconds of Python, wherever it is logged to; in the process that trains they would be
the training's. The process is started with the first run and serves those of one worker (harness/tracking/
wandb_service.py is its other side). A few runs may be ending while the next trials train; more are waited for. `close`
waits for all of them, and whatever wandb has to complain of is told to the run's trial, also after its end.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from harness.records.schema import Summary
from harness.tracking.tracker import TrialRun
from harness.tracking.wandb_tracker import FINISH_TIMEOUT_S

MAX_STARTS = 3  # of the process; where it dies again and again, a trial's start must not cost another one
MAX_ENDING = 4  # runs that may be ending at once before the next trial's start waits
PATIENCE_S = FINISH_TIMEOUT_S + 10.0  # for a process that gives up each run after FINISH_TIMEOUT_S itself
SERVE = "import sys; from harness.tracking.wandb_service import serve; serve(int(sys.argv[1]))"
COMPLETE = "the records on disk are complete"

Complain = Callable[[str], None]


class WandbProcess:
    """The process that logs a worker's runs; started with the first, and again when it has died, but not for ever."""

    def __init__(self) -> None:
        self._link: _Link | None = None
        self._num_runs = self._num_starts = 0

    def tracker(self, directory: Path, mode: str | None, complain: Complain) -> ProcessTracker:
        """A tracker of one trial; see `WandbTracker` for the arguments."""
        return ProcessTracker(self, directory, mode, complain)

    def begin(self, complain: Complain) -> tuple[_Link, int]:
        """A link to the process and a number for a new run, once there is room for it."""
        if self._link is not None:
            self._link.wait(MAX_ENDING - 1)
        if self._link is None or (self._link.failed and self._num_starts < MAX_STARTS):
            self._num_starts += 1
            self._link = _Link()
        self._num_runs += 1
        self._link.complain[self._num_runs] = complain
        return self._link, self._num_runs

    def close(self) -> None:
        """Wait for the runs that are ending, and end the process. Runs that have not been finished are abandoned."""
        link, self._link = self._link, None
        if link is not None:
            link.wait(0)
            link.close()


class ProcessTracker:
    """One trial's events, sent to the process; the same as a `WandbTracker` there."""

    def __init__(self, process: WandbProcess, directory: Path, mode: str | None, complain: Complain) -> None:
        self.process, self.directory, self.mode, self.complain = process, directory.absolute(), mode, complain
        self._run: tuple[_Link, int] | None = None

    def start(self, run: TrialRun) -> None:
        """Wait for a place if too many runs are ending; then a message."""
        link, key = self._run = self.process.begin(self.complain)
        link.send("start", key, (self.directory, self.mode, run))

    def log(self, entry: dict[str, Any]) -> None:
        """A message."""
        if self._run is not None:
            link, key = self._run
            link.send("log", key, entry)

    def finish(self, summary: Summary) -> None:
        """A message; the run ends while other things are done."""
        if self._run is not None:
            link, key = self._run
            link.ending.add(key)
            link.send("finish", key, summary)
            self._run = None


class _Link:
    """A running process: what it was sent and has not answered yet.

    `ending` and `complain` are changed by this process's training thread and by the reading thread, each by one
    operation on one key.
    """

    def __init__(self) -> None:
        here, there = socket.socketpair()
        # A process that hangs must not make a training hang: a message that finds no room for so long fails.
        here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(FINISH_TIMEOUT_S), 0))
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", SERVE, str(there.fileno())],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._connection = Connection(here.detach())
        self.ending: set[int] = set()
        self.complain: dict[int, Complain] = {}
        self.failed = self._closing = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True, name="wandb")
        self._reader.start()

    def send(self, verb: str, key: int, payload: Any) -> None:
        """Send a message; a run that begins when the process has failed is told so, and nothing is sent."""
        if self.failed:
            if verb == "start":
                self._tell(key, f"the process that runs wandb failed {MAX_STARTS} times; {COMPLETE}")
            return
        try:
            self._connection.send((verb, key, payload))
        except OSError as error:
            how = "does not answer" if isinstance(error, BlockingIOError) else "has died"
            self._fail(f"the process that runs wandb {how}")

    def wait(self, num_ending: int) -> None:
        """Wait until no more than so many runs are ending."""
        deadline = time.monotonic() + PATIENCE_S
        with self._changed:
            while len(self.ending) > num_ending and not self.failed:
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    break
        if len(self.ending) > num_ending and not self.failed:
            self._fail(f"the process that runs wandb did not end a run within {PATIENCE_S:.0f} s and was left behind")

    def close(self) -> None:
        """End the process, which nothing is waited for from any more."""
        self._closing = True
        if not self.failed:
            with suppress(OSError):  # it has died just now
                self._connection.send(("close", 0, None))
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._reader.join()
        self._connection.close()

    def _read(self) -> None:
        """The thread that listens: runs that have ended, and complaints."""
        try:
            while True:
                verb, key, payload = self._connection.recv()
                if verb == "note":
                    self._tell(key, payload)
                elif verb == "ended":
                    self.complain.pop(key, None)
                    with self._changed:
                        self.ending.discard(key)
                        self._changed.notify_all()
        except (EOFError, OSError):
            if not self._closing:
                self._fail("the process that runs wandb has died")

    def _tell(self, key: int, line: str) -> None:
        try:
            self.complain[key](line)
        except KeyboardInterrupt:
            raise
        except BaseException:  # whoever was to be told is gone, and then the launch ends
            return

    def _fail(self, message: str) -> None:
        """Give the process up, and tell every run that is not whole."""
        with self._changed:
            if self.failed:
                return
            self.failed = True
            self._changed.notify_all()
        self._process.kill()
        self._process.wait()
        for key in [*self.complain]:
            self._tell(key, f"{message}; {COMPLETE}")
