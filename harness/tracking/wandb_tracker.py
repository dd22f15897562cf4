"""Weights & Biases, live: a run a trial, and one for a sweep as a whole.

Run id = trial id, group = experiment or sweep, job type = phase, tags = arm and final state (`complete`, `pruned@3`,
`failed:nan`). A server that failed once is not tried again in this launch: what is open, and what follows, is logged
offline in `RESULTS/NAME/wandb`, and `harness sync` sends it later.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.records.schema import Summary
from harness.tracking.client import (
    choose_mode,
    close_trial,
    is_deleted,
    log_entries,
    num_epochs_of,
    open_trial,
    send_study,
)
from harness.tracking.study import Study
from harness.tracking.tracker import Entry, TrackedTrial, Tracker, TrialRefused


class WandbTracker(Tracker):
    """Sends trials to W&B, or to its files. `WANDB_MODE` (offline, online) chooses; else whether there is a login."""

    num_at_once = 4  # starting and ending a run is mostly waiting for the server

    def __init__(self, folder: Path, fell_back: bool = False) -> None:
        super().__init__(folder)
        self.mode = "offline" if fell_back else choose_mode()
        self._runs: dict[str, Any] = {}

    def open(self, trial: TrackedTrial) -> int:
        try:
            run = open_trial(trial, self.folder, self.mode)
        except Exception as error:
            if is_deleted(error):
                raise TrialRefused(f"the run {trial.trial_id} was deleted on the server") from error
            raise
        self._runs[trial.trial_id] = run
        return num_epochs_of(run)

    def log(self, trial: TrackedTrial, entries: Sequence[Entry]) -> None:
        log_entries(self._runs[trial.trial_id], entries)

    def close(self, trial: TrackedTrial, summary: Summary, content: str | None) -> None:
        close_trial(self._runs.pop(trial.trial_id), trial.run.arm, summary, content)

    def show_study(self, study: Study) -> None:
        send_study(study, self.folder, self.mode)

    def fall_back(self) -> str | None:
        if self.mode != "online":
            return None
        return f"W&B is offline from here on, and `harness sync {self.folder.name}` sends what is missing"
