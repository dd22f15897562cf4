"""Keeps the export of a search up to date while it runs, in a process of its own: no training ever waits for it.

The process is started when the search has gone on for a few seconds, and ends when its stdin closes, so also when the
search is killed. A search that is over before is exported at its end: to a file at once, to a server by such a process.
One process exports at a time, whoever started it: it holds the lease `.export.N` of the sweep's folder.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.errors import Passing, TrialError, UserError
from harness.garbage import look_for_garbage_rarely
from harness.records.leases import Lease, holder, take
from harness.search.export import Export, Exported, read_declared
from harness.search.storage_url import sqlite_path, storage_url

NAME = "export"
STORAGE = "HARNESS_EXPORT_STORAGE"  # an environment variable: a URL may hold a password, which arguments show to all
DELAY_S = 5.0
POLL_S, RETRY_S = 2.0, 30.0  # the latter after a failure
NICE = 10  # trials are trained on the same cores
END_S = 10.0  # the most that is waited for the process when the search has ended
_LATE: list[object] = []
FOLLOW = "import sys; from harness.search.live_export import main; main(*sys.argv[1:])"


def export_once(folder: Path, place: str | Path) -> Exported | None:
    """Bring the export of the sweep in a folder up to date; None while another process does.

    Raises:
        UserError: as `Export`.
        TrialError: the folder cannot be written to (reason `disk`).
    """
    read_declared(folder)  # before the lease, which makes the folder
    lease = take(folder, NAME)
    if lease is None:
        return None
    try:
        export = Export(folder, place)
        try:
            return export.update()
        finally:
            export.close()
    finally:
        lease.release()


class LiveExport:
    """While the context lasts, the search in a folder is exported; for its end a few seconds are waited at most.

    Args:
        place: a SQLite file, or what a sweep says as its `storage`.
        at_end: the end of all that follows the search, which is when a process is waited for; without it at once.
    """

    def __init__(self, folder: Path, place: str | Path, at_end: ExitStack | None = None) -> None:
        self.folder, self.place, self._at_end = folder, place, at_end
        self._process: subprocess.Popen[bytes] | None = None
        self._timer = self._set_timer(DELAY_S)

    def _set_timer(self, seconds: float) -> threading.Timer:
        timer = threading.Timer(seconds, self._start_if_free)
        timer.daemon = True
        return timer

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._timer.join()
        try:
            if self._process is None and error is None:
                if sqlite_path(storage_url(self.place)) is not None:
                    export_once(self.folder, self.place)
                else:
                    self._start()
        except (UserError, TrialError) as failure:
            _complain(str(failure))
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._at_end is None or error is not None:
            self._wait(error)
        else:
            self._at_end.push(lambda kind, raised, traceback: self._wait(raised))

    def _wait(self, error: BaseException | None) -> None:
        """Wait for the process, unless an error stops whoever waits."""
        assert self._process is not None
        try:
            self._process.wait(0 if error is not None else END_S)
        except subprocess.TimeoutExpired:
            _LATE.append(self._process)  # it ends by itself, and Python complains of a child that nobody waits for
            if error is None:
                _complain(f"the export of {self.folder.name} is not done; harness export {self.folder.name} makes it")

    def _start_if_free(self) -> None:
        if holder(self.folder, NAME) is None:
            self._start()

    def _start(self) -> None:
        place = os.path.abspath(self.place) if isinstance(self.place, Path) else self.place
        with suppress(OSError):  # no process, no live export; the end of the search tries again
            self._process = subprocess.Popen(
                [sys.executable, "-c", FOLLOW, str(self.folder), str(int(isinstance(self.place, Path)))],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=os.environ | {STORAGE: place, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # Ctrl-C is for the search, which then closes stdin
            )


def main(folder: str, is_path: str) -> None:
    """The process: export every few seconds until stdin closes, and once more then."""
    look_for_garbage_rarely()
    if hasattr(os, "nice"):
        os.nice(NICE)
    given = os.environ[STORAGE]
    _Follower(Path(folder), Path(given) if is_path == "1" else given).run()


class _Follower:
    def __init__(self, folder: Path, place: str | Path) -> None:
        self.folder, self.place = folder, place
        self._lease: Lease | None = None
        self._export: Export | None = None
        self._said: set[str] = set()

    def run(self) -> None:
        has_ended = False
        while not has_ended:
            pause_s = self._update()
            has_ended = bool(select.select([sys.stdin], [], [], pause_s)[0])
        self._update()
        if self._lease is not None:
            self._lease.release()

    def _update(self) -> float:
        """Export what is new; how long to wait before the next time."""
        try:
            self._lease = self._lease or take(self.folder, NAME)
            if self._lease is None:
                return RETRY_S
            self._lease.renew()
            self._export = self._export or Export(self.folder, self.place)
            self._export.update()
            return POLL_S
        except (UserError, TrialError, Passing) as error:
            self._export = None
            if str(error) not in self._said:
                _complain(str(error))
            self._said.add(str(error))
            return RETRY_S


def _complain(line: str) -> None:
    with suppress(OSError):
        print(f"harness: {line}", file=sys.stderr, flush=True)
