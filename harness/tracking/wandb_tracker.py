"""Weights & Biases: one run a trial, offline unless the user is logged in; never blocks or breaks a training.

Every call to wandb happens in a thread of its own, fed by a queue. If wandb fails, or is slower than the queue is
long, that is said once in the tracking log and the training goes on: the record on disk is the truth, and it holds
everything that a run holds.
"""

from __future__ import annotations

import os
import queue
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.records.schema import Summary
from harness.tracking.tracker import TrialRun

PROJECT = "harness"
QUEUE_LENGTH = 1000  # epochs that may wait for wandb before new ones are dropped
FINISH_TIMEOUT_S = 30.0  # how long a process waits for wandb when it ends

_Event = tuple[str, Any]


def choose_mode() -> str:
    """ "online" when the user is logged in, else "offline"; `WANDB_MODE` wins over both."""
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    import netrc

    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    try:
        found = netrc.netrc(os.environ.get("NETRC")).authenticators(host)  # the same file that wandb reads
    except (OSError, netrc.NetrcParseError):
        return "offline"
    return "online" if found else "offline"


class WandbTracker:
    """Sends a trial's events to W&B.

    Run id = trial id, group = experiment, job type = phase, tags = arm and final state (`complete`, `failed:nan`).

    Args:
        directory: where wandb keeps its files (a folder `wandb` is made there).
        mode: "offline", "online" or "disabled"; None chooses (see `choose_mode`).
        complain: called at most once a trial, with one line, when wandb fails.
    """

    def __init__(self, directory: Path, mode: str | None = None, complain: Callable[[str], None] = print) -> None:
        self.directory = directory.absolute()  # wandb's service may have been started in another folder
        self.mode = mode or choose_mode()
        self.complain = complain
        self._events: queue.Queue[_Event] = queue.Queue(QUEUE_LENGTH)
        self._thread: threading.Thread | None = None
        self._broken = self._complained = False

    def start(self, run: TrialRun) -> None:
        self._events = queue.Queue(QUEUE_LENGTH)
        self._broken = self._complained = False
        self._thread = threading.Thread(target=self._work, args=(run, self._events), daemon=True, name="wandb")
        self._thread.start()

    def log(self, entry: dict[str, Any]) -> None:
        self._put(("log", entry))

    def finish(self, summary: Summary) -> None:
        deadline = time.monotonic() + FINISH_TIMEOUT_S
        self._put(("finish", summary), FINISH_TIMEOUT_S)
        if self._thread is not None:
            # Offline this takes milliseconds. Online, a slow network is left behind: the thread is a daemon.
            self._thread.join(max(0.0, deadline - time.monotonic()))
            if self._thread.is_alive():
                self._complain_once(f"wandb did not finish within {FINISH_TIMEOUT_S:.0f} s and was left behind")
            self._thread = None

    def _put(self, event: _Event, timeout_s: float = 0.0) -> None:
        if self._broken or self._thread is None:
            return
        try:
            self._events.put(event, block=timeout_s > 0, timeout=timeout_s)
        except queue.Full:
            self._complain_once("wandb is slower than the training: some epochs were not sent to it")

    def _complain_once(self, message: str) -> None:
        if not self._complained:
            self._complained = True
            self.complain(f"{message}; the records on disk are complete")

    def _work(self, run: TrialRun, events: queue.Queue[_Event]) -> None:
        """The thread: everything that touches wandb."""
        try:
            wandb_run = self._open(run)
            while True:
                kind, payload = events.get()
                if kind == "log":
                    wandb_run.log(payload["metrics"] | {"epoch": payload["epoch"]}, step=payload["epoch"])
                    continue
                self._close(wandb_run, payload)
                return
        # Whatever wandb raises (network, disk, its own bugs) must not reach the training; it is reported, once.
        except Exception as error:
            self._broken = True
            cause = f": {str(error).splitlines()[0]}" if str(error) else ""
            self._complain_once(f"wandb failed: {type(error).__name__}{cause}")

    def _open(self, run: TrialRun) -> Any:
        import wandb

        self.directory.mkdir(parents=True, exist_ok=True)
        for stale in self.directory.glob(f"wandb/offline-run-*-{run.trial_id}"):
            shutil.rmtree(stale)  # a killed run's part: the whole log is sent again from its first epoch
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(self.directory),
            id=run.trial_id,
            name=run.title,
            group=run.experiment,
            job_type=run.phase,
            tags=[run.arm],
            config=run.config | {"arm": run.arm, "experiment": run.experiment},
            mode=self.mode,  # type: ignore[arg-type]
            resume="allow" if self.mode == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, disable_git=True, init_timeout=FINISH_TIMEOUT_S
            ),
        )

    @staticmethod
    def _close(wandb_run: Any, summary: Summary) -> None:
        state = summary.state.value + (f":{summary.reason}" if summary.reason else "")
        for name, value in (summary.metrics | summary.costs).items():
            wandb_run.summary[f"final/{name}"] = value
        wandb_run.summary["state"] = state
        wandb_run.tags = (*(wandb_run.tags or ()), state)
        wandb_run.finish(exit_code=0 if summary.state == "complete" else 1)
