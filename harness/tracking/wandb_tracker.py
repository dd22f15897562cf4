"""Weights & Biases: one run a trial, offline unless the user is logged in; never blocks or breaks a training.

Every call to wandb happens in a thread of its own, fed by a queue. If wandb fails, or is slower than the queue is
long, that is said once in the tracking log and the training goes on: the record on disk is the truth, and it holds
everything that a run holds. A server that has failed once is not tried again by this process: the next trials are
logged offline, and `harness sync` sends what is missing.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.records.schema import Summary
from harness.tracking.client import (
    SERVER,
    close_trial,
    describe_error,
    is_deleted,
    is_logged_in,
    log_entry,
    open_trial,
    trial_content,
)
from harness.tracking.tracker import TrialRun

QUEUE_LENGTH = 1000  # epochs that may wait for wandb before new ones are dropped
FINISH_TIMEOUT_S = 30.0  # how long a trial waits for wandb when it ends

_Event = tuple[str, Any]


def choose_mode() -> str:
    """ "online" when the user is logged in, else "offline"; `WANDB_MODE` wins over both."""
    return os.environ.get("WANDB_MODE") or ("online" if is_logged_in() else "offline")


class WandbTracker:
    """Sends a trial's events to W&B.

    Run id = trial id, group = experiment or sweep, job type = phase, tags = arm and final state (`complete`,
    `pruned@3`, `failed:nan`).

    Args:
        directory: where wandb keeps its files (a folder `wandb` is made there).
        mode: "offline", "online" or "disabled"; None chooses (see `choose_mode`).
        complain: called at most once a trial, with one line, when wandb fails.
    """

    def __init__(self, directory: Path, mode: str | None = None, complain: Callable[[str], None] = print) -> None:
        self.directory = directory.absolute()  # wandb's service may have been started in another folder
        self.mode = mode or choose_mode()
        self.complain = complain
        self._feed: _Feed | None = None

    def start(self, run: TrialRun) -> None:
        self._feed = _Feed(run, self.directory, SERVER.mode(self.mode), self.complain)
        self._feed.thread.start()

    def log(self, entry: dict[str, Any]) -> None:
        if self._feed is not None:
            self._feed.put(("log", entry))

    def finish(self, summary: Summary) -> None:
        if self._feed is not None:
            self._feed.finish(summary)
            self._feed = None


class _Feed:
    """One trial's queue and thread; a feed that was left behind in a hanging wandb cannot touch the next one."""

    def __init__(self, run: TrialRun, directory: Path, mode: str, complain: Callable[[str], None]) -> None:
        self.run, self.directory, self.mode, self.complain = run, directory, mode, complain
        self.events: queue.Queue[_Event] = queue.Queue(QUEUE_LENGTH)
        self.broken = self.complained = False
        self.thread = threading.Thread(target=self._work, daemon=True, name="wandb")

    def put(self, event: _Event, timeout_s: float = 0.0) -> None:
        """Hand an event to the thread; an epoch does not wait for a place in the queue."""
        if self.broken:
            return
        try:
            self.events.put(event, block=timeout_s > 0, timeout=timeout_s)
        except queue.Full:
            self._complain_once("wandb is slower than the training: some epochs were not sent to it")

    def finish(self, summary: Summary) -> None:
        """Wait for wandb, but not for long: offline this takes milliseconds; a slow network is left behind."""
        deadline = time.monotonic() + FINISH_TIMEOUT_S
        self.put(("finish", summary), FINISH_TIMEOUT_S)
        self.thread.join(max(0.0, deadline - time.monotonic()))
        if self.thread.is_alive():
            self._give_up(f"wandb did not finish within {FINISH_TIMEOUT_S:.0f} s and was left behind")

    def _give_up(self, message: str) -> None:
        if self.mode == "online":
            SERVER.give_up()
        self._complain_once(message)

    def _complain_once(self, message: str) -> None:
        if not self.complained:
            self.complained = True
            left = f"; W&B is offline from here on, and `harness sync {self.run.experiment}` sends what is missing"
            offline = self.mode == "online" and SERVER.mode(self.mode) == "offline"
            self.complain(f"{message}; the records on disk are complete{left if offline else ''}")

    def _work(self) -> None:
        """The thread: everything that touches wandb."""
        try:
            self._send()
        # Whatever wandb raises (network, disk, its own bugs) must not reach the training; it is reported, once.
        except Exception as error:
            self.broken = True
            if is_deleted(error):  # the server is well
                self._complain_once(f"wandb: the run {self.run.trial_id} was deleted on the server; not logged there")
            else:
                self._give_up(f"wandb failed: {describe_error(error)}")

    def _send(self) -> None:
        wandb_run = open_trial(self.run, self.directory, self.mode)
        # What a resumed run holds from an earlier start may differ from this log: then `harness sync` replaces it.
        resumed = bool(getattr(wandb_run, "resumed", False))
        first_step = int(getattr(wandb_run, "step", 0)) if resumed else 0
        entries: list[dict[str, Any]] = []
        while True:
            kind, payload = self.events.get()
            if kind == "finish":
                whole = not (resumed or self.complained)
                close_trial(wandb_run, self.run.arm, payload, trial_content(entries, payload) if whole else None)
                return
            entries.append(payload)
            log_entry(wandb_run, payload, first_step)
