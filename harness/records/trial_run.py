"""What a trial is in its experiment or sweep: whatever its config does not say of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.records.search import Value


@dataclass(frozen=True)
class TrialRun:
    """One trial's place.

    Attributes:
        experiment: the experiment's or the sweep's name.
        phase: what the trial is for (search, confirm, baseline).
        number: of a search's trial.
        params: a search's values, by dotted key.
    """

    trial_id: str
    experiment: str
    arm: str
    seed: int
    phase: str
    number: int | None = None
    params: dict[str, Value] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.arm}/seed{self.seed}" if self.number is None else f"{self.arm}/trial{self.number}"
