"""Launchers whose trials are trained somewhere else, by `harness work`: they start it, and follow the records.

    harness sweep FILE --launcher slurm  --starts-->  harness work FILE   on other machines, on one results folder
              ^                                                |
              +------------------- records --------------------+

Nothing travels between the two but the records, so either may be killed at any time: workers go on without the command,
and the same command follows them again.
"""

from __future__ import annotations

import shlex
import sys
import time
from abc import abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.config.base import OneLine, Settings
from harness.disk.temporary import temporary_beside
from harness.errors import UserError, hide_passwords
from harness.launch.events import Done
from harness.launch.launcher import Launcher, Tell
from harness.launch.same_folder import mark_of
from harness.launch.task import TrialTask
from harness.records.schema import Summary
from harness.records.trial_folder import TrialFolder

POLL_S = 0.5  # how often the records are looked at, with few trials
CARE_S = 10.0  # how often the workers are looked after


class ElsewhereOptions(Settings):
    """What both launchers of this kind may be told."""

    program: OneLine | None = None
    """How the program is called there, as `harness` or `/shared/venv/bin/harness`; by default with this Python, by its
    path."""


class ElsewhereLauncher(Launcher):
    """Follows records that `harness work` processes write, and looks after these processes.

    A task has ended when it has a record. Of one that had failed before this command was begun, and is worth another
    try, that is the record of that one.
    """

    trains = False
    options_type = ElsewhereOptions

    def __init__(self, tell: Tell, num_workers: int = 1, num_slots: int = 1, options: Any = None) -> None:
        super().__init__(tell, num_workers, num_slots, options)
        self._watched: dict[Path, TrialTask] = {}
        self._next_care = time.monotonic()

    @abstractmethod
    def look_after_workers(self, folder: Path, num_left: int) -> None:
        """Start workers where some are missing; called now and then while trials are left.

        Args:
            folder: that of the results, `RESULTS/NAME`.
            num_left: how many trials have no record yet, as far as the launch knows.
        """

    @property
    def num_running(self) -> int:
        return len(self._watched)

    @property
    def capacity(self) -> int:
        """Any number: which are under way is for the workers to decide."""
        return sys.maxsize

    def submit(self, task: TrialTask) -> None:
        self._watched[task.folder] = task
        self._begin(_results_of(task))

    def pump(self, timeout_s: float | None = None) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self.stop.check()
            if self._hear():
                return
            if self._watched:
                self.look_after(_results_of(next(iter(self._watched.values()))), len(self._watched))
            if not self._watched and deadline is None:
                return  # nothing in flight, and no time given
            pause_s = max(POLL_S, 0.001 * len(self._watched))  # a file system of the network is asked for each of them
            if deadline is not None:
                pause_s = min(pause_s, max(0.0, deadline - time.monotonic()))
            time.sleep(pause_s)
            if deadline is not None and time.monotonic() >= deadline:
                self._hear()
                return

    def _hear(self) -> bool:
        """Tell which trials have ended; returns whether any has."""
        ended = [(task, summary) for task in self._watched.values() if (summary := self._ended(task))]
        for task, summary in ended:
            del self._watched[task.folder]
            self.tell(Done(task, summary))
        return bool(ended)

    def _ended(self, task: TrialTask) -> Summary | None:
        """The summary of a trial, unless a worker of this launch has still to try it again."""
        path = task.folder / "summary.json"
        summary = TrialFolder(task.folder).summary()
        if summary is None or not task.must_train(summary):
            return summary
        with suppress(FileNotFoundError):  # it has just been begun again
            return (
                summary
                if summary.state == "failed" and path.stat().st_mtime >= self._begin(_results_of(task))
                else None
            )
        return None

    def _begin(self, folder: Path) -> float:
        if folder not in self.began:
            self.began[folder] = folder_time(folder)
        return self.began[folder]

    def look_after(self, folder: Path, num_left: int) -> None:
        """As `look_after_workers`, every `CARE_S` at most."""
        self._begin(folder)
        if time.monotonic() >= self._next_care:
            self.look_after_workers(folder, num_left)
            self._next_care = time.monotonic() + CARE_S

    def marked_work(self, folder: Path) -> tuple[str, ...]:
        """The arguments of a worker that refuses to train into another folder than that of this launch."""
        return (*self.work, f"--mark={mark_of(folder)}")

    def close(self) -> None:
        self._watched = {}


def _results_of(task: TrialTask) -> Path:
    return task.folder.parents[1]


def folder_time(folder: Path) -> float:
    """What the clock of a folder's file system says: another machine's, where the folder is shared."""
    folder.mkdir(parents=True, exist_ok=True)
    path = temporary_beside(folder / "clock")
    try:
        path.write_bytes(b".")
        return path.stat().st_mtime
    finally:
        path.unlink(missing_ok=True)


def worker_command(options: ElsewhereOptions, work: tuple[str, ...]) -> str:
    """The command of a worker, for a shell whose folder is this one's."""
    program = options.program or f"{shlex.quote(sys.executable)} -m harness"
    return f"{program} {shlex.join(work)}"


def check_work(name: str, work: tuple[str, ...]) -> None:
    """Refuse a launch whose work cannot be given to others as a command.

    Raises:
        UserError: its settings are in no file, or the command would show a password.
    """
    if not work:
        raise UserError(f"launcher {name}: it starts `harness work FILE`, so give a file, not settings")
    for argument in work:
        if hide_passwords(argument) != argument or "\n" in argument:
            raise UserError(
                f"launcher {name}: {hide_passwords(argument)!r} cannot stand in a command; put it into the file"
            )


def tell_workers(text: str) -> None:
    """Tell the user something of the workers, unless it was the last thing told: each phase looks after them anew."""
    global _told
    if text != _told:
        print(text, file=sys.stderr, flush=True)
    _told = text


_told = ""
