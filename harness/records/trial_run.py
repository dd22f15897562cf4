"""Say what a trial is for in its experiment or sweep, which its config does not tell."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.records.search import Value

SEALED_PHASES = ("search", "part")


@dataclass(frozen=True)
class TrialRun:
    """One trial's place in its experiment or sweep.

    Attributes:
        experiment: the experiment's or the sweep's name.
        phase: what the trial is for (search, confirm, baseline; part: it gives weights to others and is no row).
        number: the trial's number in a search; None outside of one.
        params: the values that a search chose, by dotted key.
    """

    trial_id: str
    experiment: str
    arm: str
    seed: int
    phase: str
    number: int | None = None
    params: dict[str, Value] = field(default_factory=dict)

    @property
    def is_sealed(self) -> bool:
        """Whether it reads no test data."""
        return self.phase in SEALED_PHASES

    @property
    def title(self) -> str:
        return f"{self.arm}/seed{self.seed}" if self.number is None else f"{self.arm}/trial{self.number}"
