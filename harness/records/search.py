"""The result of a search: one point for each trial, and the axes that the points lie on. Loads no torch.

It is stored in `results/SWEEP/search.json`; figures, tables, W&B and the selection rules read nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from harness.config.base import Settings
from harness.config.sweep import Goal
from harness.errors import UserError
from harness.records.files import first_problem, read_json

Value = float | int | str | bool | None
PointState = Literal["complete", "pruned", "failed", "running", "waiting"]


class Axis(Settings):
    """One searched setting of one arm: a dotted key of the trial's config, and its range.

    `zero_or_log` is exactly 0 or log-uniform between `low` and `high`; `categorical` has `choices` and no bounds.
    """

    key: str
    kind: Literal["linear", "log", "zero_or_log", "categorical"]
    low: float | None = None
    high: float | None = None
    choices: tuple[Value, ...] = ()

    @property
    def label(self) -> str:
        """The last part of the key: `adapter.adapter_strategy.l2_lambda` -> `l2_lambda`."""
        return self.key.rsplit(".", 1)[-1]


class SearchPoint(Settings):
    """One trial of the search.

    Attributes:
        number: the trial's number in its arm's study, from 0.
        params: dotted key -> the value that the trial trained with.
        values: the objectives, in the sweep's order; empty unless complete (a pruned trial has none).
        valid: validation metrics at the best epoch, mean over the search seeds (fractions).
        violations: one number a constraint; at most 0 where it holds.
        trial_ids: the trainings behind the point, one a search seed.
        reason: why it failed (`nan`, `oom`, `killed`, `error`).
        epochs: epochs trained, over all its trainings.
        seconds: training and validation time.
    """

    arm: str
    number: int
    state: PointState
    params: dict[str, Value]
    values: tuple[float, ...] = ()
    valid: dict[str, float] = Field(default_factory=dict)
    violations: tuple[float, ...] = ()
    trial_ids: tuple[str, ...] = ()
    reason: str | None = None
    epochs: int = 0
    seconds: float = 0.0

    @property
    def feasible(self) -> bool:
        """Whether every constraint holds."""
        return all(violation <= 0 for violation in self.violations)


class Objective(Settings):
    """One number to optimise: a validation metric and its direction."""

    metric: str
    direction: Goal


class SearchResult(Settings):
    """A sweep's search: its objectives, each arm's axes, every point (arms in order, numbers ascending)."""

    name: str
    objectives: tuple[Objective, ...]
    axes: dict[str, tuple[Axis, ...]]
    points: tuple[SearchPoint, ...]


def read_search(path: Path) -> SearchResult | None:
    """A sweep's search.json (its folder is `path`); None while there is none.

    Raises:
        UserError: the file is corrupt.
    """
    if not (path / "search.json").exists():
        return None
    try:
        return SearchResult.model_validate(read_json(path / "search.json"))
    except ValidationError as error:
        raise UserError(f"{path / 'search.json'}: {first_problem(error)}") from error
