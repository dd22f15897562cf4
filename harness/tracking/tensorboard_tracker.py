"""TensorBoard: event files, a folder a trial, in `RESULTS/NAME/tensorboard`. `tensorboard --logdir RESULTS` shows them.

Folders are named by arm, then by seed or the search's trial, so that TensorBoard's list of runs can be filtered.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.records.names import file_name
from harness.records.schema import Summary
from harness.tracking.tracker import Entry, TrackedTrial, Tracker


class TensorboardTracker(Tracker):
    """Writes each trial's metrics as curves over its epochs, its config and its end as texts."""

    package = "tensorboardX"

    def __init__(self, folder: Path, fell_back: bool = False) -> None:
        super().__init__(folder, fell_back)
        self._writers: dict[str, Any] = {}

    def open(self, trial: TrackedTrial) -> int:
        from tensorboardX import SummaryWriter

        run = trial.run  # the title is not unique: a race trains a trial of the search again on another seed
        name = f"{run.title.removeprefix(run.arm + '/')}-{trial.trial_id[:8]}"
        place = self.folder / "tensorboard" / file_name(run.arm) / name
        shutil.rmtree(place, ignore_errors=True)  # a killed launch left a part; the trial is written anew
        writer = self._writers[trial.trial_id] = SummaryWriter(str(place), flush_secs=5)
        writer.add_text("config", f"```\n{json.dumps(trial.config, indent=1)}\n```")
        return 0

    def log(self, trial: TrackedTrial, entries: Sequence[Entry]) -> None:
        for entry in entries:
            for name, value in entry["metrics"].items():
                self._writers[trial.trial_id].add_scalar(name, value, entry["epoch"])

    def close(self, trial: TrackedTrial, summary: Summary, content: str | None) -> None:
        with self._writers.pop(trial.trial_id) as writer:
            for name, value in summary.metrics.items():
                writer.add_scalar(f"final/{name}", value, summary.epochs_run)
            writer.add_text("state", " ".join([summary.state.value, *filter(None, [summary.reason])]))
