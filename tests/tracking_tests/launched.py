"""A launch's trials as its followers see them: what a training would write to disk, written by hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from harness.disk import append_line, write_json
from harness.records.schema import Summary, TrialState
from harness.records.starts import note_start
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun

CONFIG = {"seed": 3, "train": "adapter", "optim": {"lr": 1e-3}}


def entry(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "metrics": {"train/loss": 1 / epoch, "valid_target/accuracy": 0.5}, "seconds": 1.0}


class LaunchedTrial:
    """One trial of the experiment in `RESULTS/NAME`."""

    def __init__(self, experiment: Path, trial_id: str, **changes: Any) -> None:
        about = {"arm": "residual_add", "seed": 3, "phase": "confirm", **changes}
        self.run = TrialRun(trial_id, experiment.name, **about)
        self.folder = TrialFolder(experiment / ("search" if self.run.phase == "search" else "records") / trial_id)

    def start(self) -> LaunchedTrial:
        """Start it, or start it again: its log is written anew."""
        self.folder.clear()
        note_start(self.folder.path, self.run)
        self.folder.start(CONFIG)
        self.folder.restart_log([])
        return self

    def log(self, *epochs: int) -> LaunchedTrial:
        for epoch in epochs:
            append_line(self.folder.log, entry(epoch))
        return self

    def end(self, state: str = "complete", reason: str | None = None) -> Summary:
        summary = Summary(
            trial_id=self.run.trial_id,
            state=TrialState(state),
            reason=reason,
            epochs_run=len(self.folder.read_log()),
            metrics={"target_accuracy": 0.625, "forgetting": -0.01} if state == "complete" else {},
            costs={"seconds": 12.5},
        )
        write_json(self.folder.path / "summary.json", summary.model_dump(mode="json"))
        return summary


def is_running(pid: int) -> bool:
    """Whether a process runs (a zombie that nobody reaps here does not)."""
    try:
        os.kill(pid, 0)
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (ProcessLookupError, FileNotFoundError):
        return False
