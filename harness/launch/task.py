"""A trial that a launcher is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.config.execution import PLAIN, Execution
from harness.config.trial import TrialConfig
from harness.records.schema import Summary
from harness.records.trial_run import TrialRun

RETRIED_REASONS = ("oom", "killed", "error", "disk", "checkpoint")  # the others would fail again in the same way


@dataclass(frozen=True)
class TrialTask:
    """A trial to train, and where its record goes: `RESULTS/EXPERIMENT/records/TRIAL_ID`, or `search/TRIAL_ID`."""

    config: TrialConfig
    run: TrialRun
    folder: Path
    retry_failed: bool = False
    execution: Execution = PLAIN

    @property
    def title(self) -> str:
        return self.run.title

    def must_train(self, summary: Summary | None) -> bool:
        """Whether the trial has to be trained, given the summary that its record has (or none)."""
        if summary is None:
            return True
        return summary.state == "failed" and (self.retry_failed or summary.reason in RETRIED_REASONS)
