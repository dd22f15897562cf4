"""Pick the trials that a table shows, and know the settings of those that are not finished yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.config.trees import MISSING
from harness.errors import UserError
from harness.tables.load import Loaded, LoadedTrial


class Siblings:
    """What an unfinished trial, which has no config to read settings from, is placed by: a finished one of its arm.

    The arm is the manifest's: `a, ro` and `a, cs` of a `for_each` have other settings, though a table calls both `a`.
    """

    def __init__(self, trials: Iterable[LoadedTrial]) -> None:
        self._finished: dict[tuple[str, str, str], LoadedTrial] = {}
        self._places: dict[tuple[str, str], list[LoadedTrial]] = {}
        for trial in trials:
            if trial.record is not None:
                self._finished.setdefault((trial.ref.experiment, trial.ref.arm, trial.levels), trial)
                self._places.setdefault((trial.ref.experiment, trial.levels), []).append(trial)

    def coordinate(self, trial: LoadedTrial, name: str) -> Any:
        """A trial's coordinate, or that of its sibling; `MISSING` where neither has one."""
        own = trial.coordinate(name)
        if own is not MISSING or trial.record is not None:
            return own
        sibling = self._finished.get((trial.ref.experiment, trial.ref.arm, trial.levels))
        return MISSING if sibling is None else sibling.coordinate(name)

    def has(self, trial: LoadedTrial, name: str, value: Any) -> bool:
        """Whether a trial has a setting. One whose settings nothing tells has what the others at its place have."""
        if trial.record is not None or (trial.ref.experiment, trial.ref.arm, trial.levels) in self._finished:
            return _same(self.coordinate(trial, name), value)
        if (own := trial.coordinate(name)) is not MISSING:
            return _same(own, value)
        beside = self._places.get((trial.ref.experiment, trial.levels), ()) if trial.levels else ()
        return not beside or any(_same(other.coordinate(name), value) for other in beside)


def select_trials(loaded: Loaded, arms: Iterable[str] | None, where: Mapping[str, Any]) -> tuple[LoadedTrial, ...]:
    """The trials of some arms (in that order) with some settings. A trial that is not finished has those of its arm.

    Raises:
        UserError: an arm is unknown, or nothing is left.
    """
    chosen: Sequence[LoadedTrial] = loaded.trials
    if arms is not None:
        rows = dict.fromkeys(row for arm in arms for row in loaded.rows_named(arm, "table.arms"))
        order = {row: number for number, row in enumerate(rows)}
        chosen = sorted((t for t in chosen if t.ref.arm in order), key=lambda trial: order[trial.ref.arm])
    siblings = Siblings(chosen)
    chosen = [trial for trial in chosen if all(siblings.has(trial, key, value) for key, value in where.items())]
    if not any(trial.record is not None for trial in chosen) and where:
        wanted = ", ".join(f"{key}={value}" for key, value in where.items())
        raise UserError(f"table.where: no trial of {loaded.names} has {wanted}")
    return tuple(chosen)


def _same(found: Any, wanted: Any) -> bool:
    return found == (tuple(wanted) if isinstance(wanted, list) else wanted) and type(found) is not type(MISSING)
