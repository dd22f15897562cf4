"""Follows a launch in a process of its own: reads what the records say, and tells a tracker.

Training knows nothing of it. A launch adds a line to starts.jsonl when a trial starts, a line to the trial's log when
an epoch ends, and a summary at its end; this process looks for them a few times a second:

    launch --> starts.jsonl, log.jsonl, summary.json --> Follower --> Tracker
      | stdin: "end" when the launch has ended; closed without it where the launch was killed
      ` stdout: lines that the user should see
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

from harness.errors import first_line
from harness.records.starts import Start, read_starts
from harness.tracking.journal import Journal
from harness.tracking.study import read_study
from harness.tracking.tracker import Entry, TrackedTrial, Tracker, TrialRefused, trial_content
from harness.tracking.trackers import tracker_type

POLL_S = 0.2
FELL_BACK = 75  # exit code that asks to be started again, now with the tracker's fallback (`Tracker.fall_back`)
COMPLETE = "the records on disk are complete"


class FollowedTrial:
    """A trial that was started, and what the tracker was told of it.

    Attributes:
        starts: its positions in starts.jsonl, one for each time that it was started.
        is_live: whether this launch started it; others are shown only once they have ended.
        is_lost: the tracker failed on it.
    """

    def __init__(self, start: Start, starts: Sequence[int], is_live: bool) -> None:
        self.start, self.starts, self.is_live = start, [*starts], is_live
        self.trial: TrackedTrial | None = None  # once it is open
        self.num_found = 0  # epochs that the tracker had from before
        self.sent: list[Entry] = []
        self.is_lost = False
        self._seen: tuple[object, ...] = ()

    def has_news(self) -> bool:
        """Whether there is something to tell: the record has changed since `tell` began to read it."""
        if self.is_lost or not self.start.folder.has_started():
            return False
        stamp = self._stamp()
        return stamp != self._seen and (self.is_live or stamp[0] is not None)

    def _stamp(self) -> tuple[object, ...]:
        return tuple(_stamp_of(self.start.folder.path / name) for name in ("summary.json", "log.jsonl"))

    def tell(self, tracker: Tracker) -> bool:
        """Tell the tracker what is new. Returns whether the trial has ended."""
        self._seen = self._stamp()
        folder = self.start.folder
        summary = folder.summary()  # read before the log: where there is a summary, the log is whole
        entries = folder.read_log()
        if self.trial is None:
            trial = TrackedTrial(self.start.run, folder.config())
            self.num_found = tracker.open(trial)
            self.trial = trial
        # A trial that goes on after a kill writes its log anew, with the same epochs: they are not told again.
        new = entries[self.num_found + len(self.sent) :]
        if new:
            tracker.log(self.trial, new)
            self.sent += new
        if summary is not None:
            whole = not self.num_found and _shown_of(self.sent) == _shown_of(entries)
            tracker.close(self.trial, summary, trial_content(entries, summary) if whole else None)
        return summary is not None


def _stamp_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _shown_of(entries: Sequence[Entry]) -> list[object]:
    """What trackers show of epochs. Their seconds are not shown, because they differ from start to start."""
    return [(entry["epoch"], entry["metrics"]) for entry in entries]


class TrackerFailed(Exception):
    """The tracker cannot go on in this process.

    Args:
        code: this process's exit code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Follower:
    """Tells a tracker what happens in `RESULTS/NAME`.

    Args:
        name: the tracker's, in `TRACKERS`.
        since: the position in starts.jsonl at which the launch began.
        complain: called with a line that the user should see; never twice with the same.
    """

    def __init__(
        self, experiment: Path, name: str, tracker: Tracker, since: int, complain: Callable[[str], object]
    ) -> None:
        self.experiment, self.name, self.tracker, self.since = experiment, name, tracker, since
        self.journal = Journal(experiment, name)
        self.trials: dict[Path, FollowedTrial] = {}
        self.jobs: dict[Path, tuple[Future[bool], float]] = {}  # what is being told, and until when
        self._threads = ThreadPoolExecutor(tracker.num_at_once)
        self._unread: list[Start] = []
        self._position = 0
        self._said: set[str] = set()
        self._complain = complain

    def begin(self) -> bool:
        """Take the journal; False while another launch's follower has it (it shows this launch's trials, too)."""
        if not self.journal.lock():
            return False
        self.journal.read(self.since)
        self._position = min(self.journal.position, self.since)
        return True

    def poll(self) -> None:
        """Look at everything once: what was told, new starts, news of trials.

        Raises:
            TrackerFailed: it hangs, or falls back.
        """
        for path, (job, deadline) in [*self.jobs.items()]:
            if job.done() or time.monotonic() > deadline:
                del self.jobs[path]
                self._land(path, job)
        self._read_starts()
        for path, trial in self.trials.items():
            if len(self.jobs) == self.tracker.num_at_once:
                return
            if path not in self.jobs and trial.has_news():
                deadline = time.monotonic() + self.tracker.timeout_s
                self.jobs[path] = (self._threads.submit(trial.tell, self.tracker), deadline)

    def wait(self) -> None:
        """Wait a moment, or until something was told."""
        wait([job for job, _ in self.jobs.values()], POLL_S, FIRST_COMPLETED)

    def end(self, is_finished: bool) -> None:
        """Tell what is left, and the sweep's study if the launch is finished.

        Raises:
            TrackerFailed: as in `poll`.
        """
        self.poll()
        while self.jobs:
            self.wait()
            self.poll()
        study = read_study(self.experiment.parent, self.experiment.name) if is_finished else None
        if study is not None and study.content != self.journal.study:
            try:
                self._threads.submit(self.tracker.show_study, study).result(self.tracker.timeout_s)
                self.journal.study = study.content
            except Exception as error:
                self._fail(error)
        left = [start for trial in self.trials.values() for start in trial.starts]
        self.journal.rewrite(min([self._position, *left]))

    def _read_starts(self) -> None:
        found, self._position = read_starts(self.experiment, self._position)
        waiting: list[Start] = []
        for start in [*self._unread, *found]:
            path = start.folder.path
            known = self.trials.get(path)
            if path in self.jobs:
                waiting.append(start)  # the trial's earlier start may just be told
            elif start.position in self.journal.shown:
                continue
            elif known is not None and known.trial is not None and not known.is_lost:
                known.starts.append(start.position)
            else:
                starts = [*([] if known is None else known.starts), start.position]
                self.trials[path] = FollowedTrial(start, starts, start.position >= self.since)
        self._unread = waiting

    def _land(self, path: Path, job: Future[bool]) -> None:
        """Take the outcome of telling a trial; a tracker that took too long for it has failed."""
        try:
            if job.result(timeout=0):
                self.journal.add(self.trials.pop(path).starts)
        except TrialRefused as error:
            self._say(f"{self.name}: {first_line(error)}, so this trial is not shown there")
            self.journal.add(self.trials.pop(path).starts)
        # Whatever a tracker raises (network, disk, its own bugs) is told to the user.
        except Exception as error:
            self._fail(error)
            self.trials[path].is_lost = True

    def _fail(self, error: Exception) -> None:
        """Tell the user of a failure.

        Raises:
            TrackerFailed: the tracker hangs, or falls back.
        """
        hangs = isinstance(error, TimeoutError) and not str(error)
        cause = f"no answer within {self.tracker.timeout_s:g} s" if hangs else first_line(error)
        way = self.tracker.fall_back()  # how a new process would go on
        self._say(f"{self.name} failed: {type(error).__name__}: {cause}; {COMPLETE}{'' if way is None else f'; {way}'}")
        if way is not None or hangs:
            raise TrackerFailed(1 if way is None else FELL_BACK)

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._complain(line)


def follow(follower: Follower, stdin: int) -> None:
    """Follow until the launch has ended, and tell what is left.

    Raises:
        TrackerFailed: the tracker hangs, or falls back.
    """
    follows = follower.begin()
    while not select.select([stdin], [], [], 0 if follower.jobs else POLL_S)[0]:
        if follows:
            follower.poll()
            follower.wait()
        follows = follows or follower.begin()
    if follows:
        follower.end(is_finished=os.read(stdin, 1) != b"")


def main(experiment: str, name: str, since: str, fell_back: str) -> None:
    """Run the process. `since`: where in starts.jsonl the launch begins; `fell_back`: "1" if the tracker did."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launch's to handle
    # Processes that a tracker starts inherit the standard streams, and may live longer than this one.
    stdin, stdout = os.dup(0), os.dup(1)
    with open(os.devnull, "r+b") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)

    def complain(line: str) -> None:
        with suppress(OSError):  # the launch may be gone
            os.write(stdout, f"{line}\n".encode())

    code, folder = 0, Path(experiment)
    follower = Follower(folder, name, tracker_type(name)(folder, fell_back == "1"), int(since), complain)
    try:
        follow(follower, stdin)
    except TrackerFailed as failed:
        code = failed.code
    except Exception as error:  # a corrupt file, a bug: the launch goes on
        complain(f"{name}: {type(error).__name__}: {first_line(error)}; {COMPLETE}")
    if code or follower.trials:
        os._exit(code)  # a normal exit would let wandb wait for what hangs, and finish the runs of unfinished trials
