"""How the trials of a search ended: a file for each, `RESULTS/NAME/points/ARM/NUMBER.json`, written once.

A point follows from its records, and whoever misses one makes it again from them. It is kept because that is quicker,
because readers (status, the export) then need neither the sweep's file nor a sampler, and for what no record says: that
a trial with the settings of another one was not trained, and that nobody could train one. When several processes
see a trial's end, the first one's file counts, for all of them. Loads no torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from pydantic import ConfigDict, Field

from harness.disk import name_new, open_making_folders
from harness.disk.network import read_whole
from harness.disk.temporary import temporary_beside
from harness.errors import TrialError
from harness.records.search import SearchPoint, Value

POINTS = "points"


class EndedTrial(SearchPoint):
    """A trial of a search that has ended.

    Attributes:
        drawn: dotted key -> what Optuna drew, of which `params` are made.
        steps: step -> value of the first objective, as far as a pruner judged it.
        message: why it failed, in a line.
        num_records: of how many of its `trial_ids` there is a record (a pruned trial trains no further seed); None
            where an older version wrote the point.
    """

    model_config = ConfigDict(allow_inf_nan=True)

    drawn: dict[str, Value] = Field(default_factory=dict)
    steps: dict[int, float] = Field(default_factory=dict)
    message: str | None = None
    num_records: int | None = None

    @property
    def recorded(self) -> tuple[str, ...]:
        """The trials whose records it follows from."""
        assumed = {"complete": len(self.trial_ids), "pruned": 1, "failed": 0}[self.state]
        return self.trial_ids[: assumed if self.num_records is None else self.num_records]

    @property
    def point(self) -> SearchPoint:
        """What search.json has of it."""
        return SearchPoint(**{name: getattr(self, name) for name in SearchPoint.model_fields})


class Points:
    """The points of one arm of a sweep.

    Args:
        folder: the sweep's, `RESULTS/NAME`.
    """

    def __init__(self, folder: Path, arm: str) -> None:
        self.arm = arm
        self.path = folder / POINTS / quote(arm, safe=" ")

    def read(self, number: int) -> EndedTrial | None:
        """A trial's point; None while there is none (one that cannot be read is made again from the records)."""
        try:
            content = json.loads(read_whole(self.path / f"{number}.json"))
            found = EndedTrial.model_validate(content)
        except (OSError, ValueError):  # a ValidationError is a ValueError
            return None
        return found if (found.arm, found.number) == (self.arm, number) else None

    def time_of(self, number: int) -> float | None:
        """When a trial's point was written, in seconds since the epoch; None while there is none."""
        try:
            return (self.path / f"{number}.json").stat().st_mtime
        except OSError:
            return None

    def read_all(self) -> dict[int, EndedTrial]:
        """All of them, by number. Those that this process has read before are not read again."""
        try:
            entries = [entry for entry in os.scandir(self.path) if entry.name.removesuffix(".json").isdecimal()]
        except (FileNotFoundError, NotADirectoryError):
            return {}
        before, now = _READ.get(self.path, {}), dict[int, tuple[tuple[int, int], EndedTrial]]()
        for number, entry in sorted((int(entry.name.removesuffix(".json")), entry) for entry in entries):
            status = entry.stat()
            stamp = (status.st_ino, status.st_mtime_ns)
            known = before.get(number)
            point = known[1] if known is not None and known[0] == stamp else self.read(number)
            if point is not None:
                now[number] = (stamp, point)
        _READ[self.path] = now
        return {number: point for number, (_, point) in now.items()}

    def remove(self, number: int) -> None:
        """Forget a trial's point: the records that it follows from are gone.

        Raises:
            TrialError: the folder cannot be written to (reason `disk`).
        """
        try:
            (self.path / f"{number}.json").unlink(missing_ok=True)
        except OSError as error:
            raise TrialError("disk", f"{self.path}: cannot be written: {error.strerror}") from error

    def write(self, ended: EndedTrial) -> EndedTrial:
        """Write a point unless it is there; what counts from now on.

        Raises:
            TrialError: the disk is full or not writable (reason `disk`).
        """
        path = self.path / f"{ended.number}.json"
        temporary = temporary_beside(path)
        try:
            try:
                with open_making_folders(temporary, "wb") as file:
                    file.write(json.dumps(ended.model_dump()).encode(errors="backslashreplace") + b"\n")
                name_new(temporary, path)
            except FileExistsError:
                known = self.read(ended.number)
                if known is not None:
                    return known
                os.replace(temporary, path)  # a power cut has emptied it
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise TrialError("disk", f"{path}: cannot be written: {error.strerror}") from error
        return ended


# What was read, by folder and number, with what tells whether it is still the same file.
_READ: dict[Path, dict[int, tuple[tuple[int, int], EndedTrial]]] = {}


def read_points(folder: Path, arms: Iterable[str]) -> dict[str, list[EndedTrial]]:
    """The points of a sweep's arms, by number."""
    return {arm: list(Points(folder, arm).read_all().values()) for arm in arms}
