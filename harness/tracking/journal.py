"""What a tracker has shown of an experiment: `RESULTS/NAME/.tracked/TRACKER.jsonl`.

A trial's start is known by its position in starts.jsonl. The first line says from which position on the lines after it
are to be read; each of these is the position of a start whose trial was shown to its end. So a follower that is killed
leaves what the next one needs, and a long study's journal stays short.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from harness.disk import append_line, read_lines, write_atomically
from harness.records.leases import Lease, take
from harness.records.starts import end_of_starts


class Journal:
    """One tracker's journal; whoever holds its lock is the only one to follow for this tracker."""

    def __init__(self, experiment: Path, tracker: str) -> None:
        self.path = experiment / ".tracked" / f"{tracker}.jsonl"
        self.position = 0
        self.study = ""  # the content of the study that was shown
        self.shown: set[int] = set()
        self._lease: Lease | None = None

    def lock(self) -> bool:
        """Take the lock, which ends with this process; False while another process has it."""
        self._lease = take(self.path.parent, self.path.stem)
        return self._lease is not None

    def unlock(self) -> None:
        """Let another process follow."""
        if self._lease is not None:
            self._lease.release()
        self._lease = None

    def read(self, position: int) -> None:
        """Read it; where there is none, or it is about a starts.jsonl that was deleted, begin one at a position."""
        first, *others = read_lines(self.path) or [{"position": position, "study": ""}]
        self.position, self.study, self.shown = first["position"], first["study"], {line["shown"] for line in others}
        if not self.path.exists() or max([self.position, *self.shown]) > end_of_starts(self.path.parents[1]):
            self.shown.clear()
            self.rewrite(position)

    def add(self, starts: Iterable[int]) -> None:
        """A trial that was started at these positions was shown to its end."""
        for start in starts:
            append_line(self.path, {"shown": start})
            self.shown.add(start)

    def rewrite(self, position: int) -> None:
        """Move the first line, to a position before which everything was shown."""
        self.position = position
        lines = [{"position": position, "study": self.study}]
        lines += [{"shown": start} for start in sorted(self.shown) if start >= position]
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in lines).encode())
