"""What has gone wrong with a trial so far, and whether it is tried again: decided by the cause, here and nowhere else.

`failures.jsonl` in a trial's folder has a line for each failure, so workers on all machines count alike:

    {"at": "2026-11-29T08:00:00+00:00", "reason": "error", "epochs": 2, "message": "ZeroDivisionError: ..."}

A cause with no number in `TRIES` (a NaN, say) would come back in the same way, so the first failure is final. A trial
that has used up its tries is parked: its record says `failed`, and only who asks for it trains it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.disk import append_line, read_lines
from harness.records.provenance import utc_now
from harness.records.schema import Summary

FILE = "failures.jsonl"
ASKED = "asked"  # the reason on the line of who asks for a parked trial: what came before no longer counts

TRIES: Mapping[str, int] = {
    "error": 2,  # a bug comes back, a machine's hiccup does not
    "oom": 3,  # others may have had the memory
    "damaged": 2,  # its checkpoint: the second time it begins without one
    "checkpoint": 1,  # made with other data, say: whoever starts it has to look
    "disk": 2,
    "killed": 5,  # deaths of its process before one and the same epoch could end
}
NUM_DEATHS_TOGETHER = 2  # after so many at one epoch a trial is alone in its process: its neighbours may be innocent


class Failures:
    """The failures of the trial in a folder. They are written by who holds its lease."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def note(self, reason: str, epochs: int, message: str) -> None:
        """Add a failure, and how many epochs were finished by then.

        Raises:
            TrialError: the disk is full or not writable (reason `disk`).
        """
        append_line(self.path, {"at": utc_now(), "reason": reason, "epochs": epochs, "message": message})

    def _counted(self) -> list[Mapping[str, Any]]:
        lines = read_lines(self.path)
        asked = [number for number, line in enumerate(lines, start=1) if line["reason"] == ASKED]
        return lines[asked[-1] :] if asked else lines

    def count(self, reason: str) -> int:
        """How often the trial has failed in this way; deaths of its process only since the last epoch that ended."""
        found = [line for line in self._counted() if line["reason"] == reason]
        return len(found) if reason != "killed" else sum(line["epochs"] == found[-1]["epochs"] for line in found)

    def may_try(self, reason: str) -> bool:
        """Whether a trial that has failed in this way is tried again."""
        return self.count(reason) < TRIES.get(reason, 0)

    def must_be_alone(self) -> bool:
        """Whether the trial may be what kills its process, so that others must not be in it."""
        deaths = [line["epochs"] for line in self._counted() if line["reason"] == "killed"]
        if len(deaths) < NUM_DEATHS_TOGETHER - 1:  # nearly always; a death is written down when the next one has begun
            return False
        epochs = len(read_lines(self.path.with_name("log.jsonl")))
        return deaths.count(epochs) >= NUM_DEATHS_TOGETHER - 1


def is_tried_again(summary: Summary, folder: Path) -> bool:
    """Whether the trial of a failed record is trained again without being asked for."""
    return summary.state == "failed" and Failures(folder).may_try(summary.reason or "error")
