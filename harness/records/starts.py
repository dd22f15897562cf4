"""Log each start of a trial as a line in `RESULTS/NAME/starts.jsonl`.

Who follows a launch (the trackers do) reads this file instead of looking through thousands of records.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.disk import append_line
from harness.errors import UserError
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun

STARTS = "starts.jsonl"


@dataclass(frozen=True)
class Start:
    """A trial that was started, and its record; `position` is that of its line, in bytes."""

    position: int
    folder: TrialFolder
    run: TrialRun


def note_start(record: Path, run: TrialRun) -> None:
    """Add a line: the trial of this record (`RESULTS/NAME/records/TRIAL_ID` or `search/TRIAL_ID`) starts.

    Raises:
        TrialError: the disk is full or not writable (reason `disk`).
    """
    # One write, so that workers add lines side by side.
    append_line(record.parents[1] / STARTS, {"record": f"{record.parent.name}/{record.name}", **asdict(run)})


def end_of_starts(experiment: Path) -> int:
    """Where the next line will begin, in bytes."""
    path = experiment / STARTS
    return path.stat().st_size if path.exists() else 0


def read_starts(experiment: Path, position: int = 0) -> tuple[list[Start], int]:
    """The starts from a position on, in order, and the position after them."""
    path = experiment / STARTS
    if end_of_starts(experiment) <= position:
        return [], position
    with path.open("rb") as file:
        file.seek(position)
        whole, _, _ = file.read().rpartition(b"\n")
    found = []
    for line in whole.split(b"\n") if whole else []:
        try:
            content = json.loads(line)
            record = experiment / content.pop("record")
            found.append(Start(position, TrialFolder(record), TrialRun(**content)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}, byte {position}: not the start of a trial; delete this file") from error
        position += len(line) + 1
    return found, position
