"""Replay finished records to W&B, any number of times, without duplicates.

A run is sent when neither `wandb_synced.json` nor the server says that it is there whole, with the same content:

- not there: under the trial's id;
- there in part, from an upload of the same content that was cut: resumed, and only the missing steps are logged;
- there with other content (the trial was trained again, or a tracker lost part of it): under `TRIAL_ID-CONTENT`, and
  the old run is deleted once the new one has arrived. W&B refuses a logged step a second time, and never gives the id
  of a deleted run again, so neither logging over it nor deleting first would do.

What is sent counts only when the server has confirmed it; a failure stops the replay, and the next call goes on.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.disk import write_json
from harness.errors import TrialError, first_line
from harness.records.files import read_json
from harness.tracking.client import (
    call_bounded,
    close_trial,
    is_deleted,
    log_entries,
    num_epochs_of,
    open_trial,
    project_name,
    send_study,
)
from harness.tracking.local_runs import LocalTrial, read_local_runs
from harness.tracking.remote_runs import RemoteRun, delete_run, list_runs
from harness.tracking.study import Study

MARKER = "wandb_synced.json"
UPLOAD_TIMEOUT_S = 120.0  # for one run
CONFIRM_TRIES = 10  # the server may list a run's end a moment after it was sent
CONFIRM_WAIT_S = 1.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class SyncReport:
    """How many runs were sent, were there already, and cannot be sent yet."""

    num_sent: int
    num_known: int
    num_unknown: int


class Marker:
    """`wandb_synced.json`: trial id -> content that the server has confirmed. One server and project at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = {name: os.environ.get(f"WANDB_{name.upper()}", "") for name in ("base_url", "entity")}
        self.place["project"] = project_name()
        known = read_json(path) if path.exists() else {}
        self.runs: dict[str, str] = known["runs"] if known.get("place") == self.place else {}

    def add(self, run_id: str, content: str) -> None:
        self.runs[run_id] = content
        write_json(self.path, {"place": self.place, "runs": self.runs})


def sync_results(results: Path, name: str, say: Say) -> SyncReport:
    """Send what the server does not have of one experiment or sweep.

    Raises:
        UserError: no such results, or a corrupt file.
        TrialError: the server failed or did not confirm (reason `wandb`); the next call goes on.
    """
    local = read_local_runs(results, name)
    marker = Marker(results / name / MARKER)
    items: list[LocalTrial | Study] = [*local.trials, *([] if local.study is None else [local.study])]
    contents = {item.run_id: item.content for item in items}
    missing = [item for item in items if marker.runs.get(item.run_id) != item.content]
    num_sent = 0
    try:
        if missing:
            remote = call_bounded(lambda: list_runs(name), UPLOAD_TIMEOUT_S)
            for item in missing:
                if _whole(remote, item.run_id, item.content) is None:
                    say(f"{name}: {item.title}")
                    _send(item, remote)
                    num_sent += 1
            _confirm(name, {item.run_id: contents[item.run_id] for item in missing}, marker)
    except TrialError:
        raise
    # wandb raises errors of many kinds, and for all of them the user can only try again.
    except Exception as error:
        cause = f"{type(error).__name__}: {first_line(error)}"
        raise TrialError("wandb", f"{name}: W&B: {cause}; run harness sync again to go on") from error
    return SyncReport(num_sent, len(items) - num_sent, local.num_unknown)


def _whole(remote: list[RemoteRun], run_id: str, content: str) -> RemoteRun | None:
    return next((run for run in remote if run.belongs_to(run_id) and run.content == content), None)


def _send(item: LocalTrial | Study, remote: list[RemoteRun]) -> None:
    send = partial(send_study, item) if isinstance(item, Study) else partial(send_trial, item)
    with tempfile.TemporaryDirectory(prefix="harness-sync-", ignore_cleanup_errors=True) as folder:
        for run_id in run_ids(item, remote):
            try:
                call_bounded(partial(send, Path(folder), "online", run_id), UPLOAD_TIMEOUT_S)
                return
            except Exception as error:
                if not is_deleted(error):
                    raise
    raise TrialError("wandb", f"{item.run_id}: not sent, because its runs were deleted on the server under every id")


def run_ids(item: LocalTrial | Study, remote: list[RemoteRun]) -> list[str]:
    """The ids under which a run may be sent, in order of preference: one may have been deleted on the server."""
    own, content = item.run_id, item.content
    mine = [run for run in remote if run.belongs_to(own)]
    # A study's run takes new versions; a trial's run must hold one log.
    going_on = [run.run_id for run in mine if run.begun == content or isinstance(item, Study)]
    fresh = [own, *(f"{own}-{content[:8]}{suffix}" for suffix in ("", "-2", "-3"))]
    return [*going_on, *(run_id for run_id in fresh if run_id not in {run.run_id for run in mine})]


def send_trial(trial: LocalTrial, directory: Path, mode: str, run_id: str) -> None:
    """Replay one record: its log epoch by epoch, then its summary."""
    wandb_run = open_trial(trial.trial, directory, mode, run_id, trial.content)
    log_entries(wandb_run, trial.entries[num_epochs_of(wandb_run) :])
    close_trial(wandb_run, trial.trial.run.arm, trial.summary, trial.content)


def _confirm(name: str, contents: dict[str, str], marker: Marker) -> None:
    """Mark the runs that the server lists as whole, and delete the runs that they replace."""
    for attempt in range(CONFIRM_TRIES):
        if attempt:
            time.sleep(CONFIRM_WAIT_S)
        remote = call_bounded(lambda: list_runs(name), UPLOAD_TIMEOUT_S)
        for run_id, content in [*contents.items()]:
            whole = _whole(remote, run_id, content)
            if whole is None:
                continue
            for run in remote:
                if run.belongs_to(run_id) and run.run_id != whole.run_id:
                    call_bounded(partial(delete_run, run), UPLOAD_TIMEOUT_S)
            marker.add(run_id, content)
            del contents[run_id]
        if not contents:
            return
    raise TrialError("wandb", f"{name}: W&B has not confirmed {len(contents)} runs; run harness sync again to ask anew")
