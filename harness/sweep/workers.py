"""Who trains what now, on which machine, and what waits for it; read from the leases of the trials. Loads no torch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.records.leases import holder
from harness.records.starts import read_starts

PLAN = "plan-"  # how the lease of a launch of a sweep begins (harness.sweep.under_way)


@dataclass(frozen=True)
class Held:
    """A trial that has begun and not ended, and its worker.

    Attributes:
        host, pid: of the worker; "" and 0 where nobody holds the trial.
        is_gone: whether nobody trains it: whoever comes next goes on from its last epoch.
        silent_s: seconds since the worker's last sign of life.
        lease_s: after so many without one, another worker takes the trial.
    """

    title: str
    epochs: int
    host: str = ""
    pid: int = 0
    is_gone: bool = True
    silent_s: float = 0.0
    lease_s: float = 0.0

    @property
    def text(self) -> str:
        """In words."""
        how_far = f"{self.title}, {self.epochs} epoch{'' if self.epochs == 1 else 's'} done"
        if not self.host:
            return f"{how_far}: nobody trains it now"
        who = f"worker {self.pid} on {self.host}"
        if self.is_gone:
            return f"{how_far}: {who} is gone; the next worker takes it"
        if self.silent_s < self.lease_s / 2:
            return f"{how_far}: {who}"
        left = self.lease_s - self.silent_s
        return f"{how_far}: {who} is silent for {self.silent_s:.0f} s; another one takes it in {left:.0f} s"


def read_held(folder: Path) -> list[Held]:
    """The trials of a sweep or an experiment that have begun and not ended, those that are trained first."""
    begun = {start.folder.path: start for start in read_starts(folder)[0]}
    found = []
    for path, start in begun.items():
        if start.folder.is_finished():
            continue
        held, now = holder(path), time.time()
        about = (f"{start.run.phase} {start.run.title}", start.folder.num_logged())
        if held is None:
            found.append(Held(*about))
        else:
            silent_s = max(0.0, now - held.renewed)
            found.append(Held(*about, held.host, held.pid, held.is_gone(now), silent_s, held.lease_s))
    return sorted(found, key=lambda one: (one.is_gone, one.host, one.pid, one.title))


def is_under_way(folder: Path) -> bool:
    """Whether a launch of the sweep in a folder lives."""
    held = [holder(folder, name) for name in plan_leases(folder)]
    return any(one is not None and not one.is_gone(time.time()) for one in held)


def plan_leases(folder: Path) -> list[str]:
    """The names of the leases of launches, dead or alive."""
    return sorted({path.name[1:].partition(".")[0] for path in folder.glob(f".{PLAN}*")})


def waits(arm: str, ended: Iterable[int], running: Sequence[int], planned: int | None, lag: int) -> str | None:
    """What the next trials of an arm's search wait for, where all that may be drawn are being trained."""
    done = set(ended)
    first = next(number for number in range(len(done) + 1) if number not in done)
    last = first + lag if planned is None else min(first + lag, planned)
    free = [number for number in range(first, last) if number not in done and number not in running]
    if free or first == last or last == planned:
        return None
    return f"{arm}: trial {last} and later ones wait for trial {first} (search.lag {lag})"
