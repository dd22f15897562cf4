"""The outcome of checks: how many things held, which did not (each with its place), what could not be checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

TOLERANCE = 1e-12  # metrics are recomputed by the function that made them, so nothing but a last bit may differ


@dataclass(frozen=True)
class Drift:
    """A published value that differs from what the records give.

    Attributes:
        place: the cell (`residual_add x target_macro_f1, seed 0`), the record or the file.
        message: what is there, and what it should be.
    """

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass
class Findings:
    """The outcome of a verification.

    Attributes:
        held: what was checked -> how often it held.
        drifts: what did not hold, in the order of the table.
        unchecked: what was not checked, and why.
    """

    held: Counter[str] = field(default_factory=Counter)
    drifts: list[Drift] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def check(self, holds: bool, what: str, place: str, message: str) -> bool:
        """Note a check's outcome; returns it."""
        if holds:
            self.held[what] += 1
        else:
            self.drifts.append(Drift(place, message))
        return holds

    def skip(self, reason: str) -> None:
        """Note once what was not checked, and why."""
        if reason not in self.unchecked:
            self.unchecked.append(reason)

    def add(self, others: Iterable[Findings]) -> Findings:
        """Take in further findings; returns itself."""
        for other in others:
            self.held.update(other.held)
            self.drifts += other.drifts
            for reason in other.unchecked:
                self.skip(reason)
        return self


def cell_name(arm: str, column: str, seed: int | None = None) -> str:
    """How a cell is named: `ARM x COLUMN`, and the seed within it."""
    return f"{arm} x {column}" + ("" if seed is None else f", seed {seed}")


def same_number(one: float, other: float, tolerance: float = TOLERANCE) -> bool:
    """Whether two numbers are equal up to `tolerance`, absolute."""
    return abs(one - other) <= tolerance
