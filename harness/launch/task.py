"""A trial that a launcher is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.config.execution import PLAIN, Execution
from harness.config.trial import TrialConfig
from harness.records.failures import is_tried_again
from harness.records.made_with import MadeWith
from harness.records.schema import Provenance, Summary
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun

DEPENDENCY = "dependency"  # what it takes weights from has none: tried again once that may have some


@dataclass(frozen=True)
class TrialTask:
    """A trial to train, and where its record goes: `RESULTS/EXPERIMENT/records/TRIAL_ID`, or `search/TRIAL_ID`.

    Attributes:
        needs: the trials that it takes weights from, directly or not, each after those that it needs itself. Whoever
            trains it trains these first, unless they are finished.
        gives: whether others take weights from it.
        made_with: what it must be trained with; None: what is there.
    """

    config: TrialConfig
    run: TrialRun
    folder: Path
    retry_failed: bool = False
    execution: Execution = PLAIN
    needs: tuple[TrialTask, ...] = ()
    gives: bool = False
    made_with: MadeWith | None = None

    @property
    def title(self) -> str:
        return self.run.title

    def must_train(self, summary: Summary | None) -> bool:
        """Whether the trial has to be trained, given the summary that its record has (or none)."""
        if summary is None:
            return True
        if summary.state == "complete":  # one that was no row when it was trained has no test numbers
            return (not self.run.is_sealed and not summary.by_domain) or (self.gives and not self._weights())
        if summary.state == "pruned":  # as a trial of the search, which keeps no weights either
            return self.gives
        if summary.state != "failed" or self.retry_failed:
            return summary.state == "failed"
        return is_tried_again(summary, self.folder) or (summary.reason == DEPENDENCY and not self._is_in_vain())

    def _is_in_vain(self) -> bool:
        """Whether a trial that it takes weights from has failed for good."""
        found = [(need, TrialFolder(need.folder).summary()) for need in self.needs]
        return any(one is not None and one.state != "complete" and not need.must_train(one) for need, one in found)

    def lacks_weights(self, summary: Summary | None) -> bool:
        """Whether others take weights from the trial, and files that its record tells of are not there."""
        if not self.gives or summary is None or summary.state != "complete":
            return False
        return any(not (self.folder / name).is_file() for name in self._weights())

    def _weights(self) -> list[str]:
        """The files with weights that its record tells of; a trial of the search has none, whatever it trained."""
        made = TrialFolder(self.folder).files.model("provenance.json", Provenance)
        return [] if made is None else [name for name in made.files if name.endswith(".safetensors")]


def row_phase(config: TrialConfig) -> str:
    """What a trial of a table is for."""
    return "baseline" if config.train == "none" else "confirm"
