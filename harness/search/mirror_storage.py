"""Where a mirror keeps its trials: Optuna's storage in memory, quick to read once thousands of trials have ended."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState


class Ended(FrozenTrial):
    """A trial that has ended: what Optuna works out anew in each look at it (its constraints most of all) is kept.

    A draw looks at each ended trial many times; at 10,000 of them that took longer than all of a draw's arithmetic.
    """

    internal: Mapping[str, float]
    """What a sampler computes with instead of `params`."""
    number = params = value = values = system_attrs = constraints = None  # type: ignore[assignment]

    def __init__(self, trial: FrozenTrial) -> None:
        values = trial.values
        vars(self).update(
            vars(trial),
            number=trial.number,
            params=trial.params,
            values=values,
            value=values[0] if values is not None and len(values) == 1 else None,
            system_attrs=trial.system_attrs,
            constraints=trial.constraints,
            internal={name: kind.to_internal_repr(trial.params[name]) for name, kind in trial.distributions.items()},
        )


@dataclass(frozen=True)
class EndedColumns:
    """What a sampler computes with, of the trials that ended complete or pruned, in the order of their numbers.

    Attributes:
        values: the first objective; NaN if pruned.
        violated: the sum of the constraints that do not hold, 0 if all do.
        internal: parameter -> what Optuna computes with in its place.
    """

    values: list[float] = field(default_factory=list)
    violated: list[float] = field(default_factory=list)
    internal: dict[str, list[float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    def append(self, trial: FrozenTrial, internal: Mapping[str, float]) -> None:
        """Take a trial that has ended."""
        self.values.append(trial.values[0] if trial.state == TrialState.COMPLETE else math.nan)
        self.violated.append(sum(violation for violation in trial.constraints.values() if violation > 0))
        for name, value in internal.items():
            self.internal.setdefault(name, []).append(value)


class MirrorStorage(InMemoryStorage):
    """One study, whose trials end in the order of their numbers and do not change afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self._begun: list[int] = []
        self._ended: list[FrozenTrial] = []
        self.columns = EndedColumns()
        self._found: dict[tuple[TrialState, ...], tuple[int, list[FrozenTrial]]] = {}

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """As Optuna's."""
        trial_id = super().create_new_trial(study_id, template_trial)
        self._begun.append(trial_id)
        return trial_id

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        """As Optuna's; a trial that ends is kept as it is now."""
        is_set: bool = super().set_trial_state_values(trial_id, state, values)
        if is_set and state.is_finished():
            assert trial_id == self._begun[len(self._ended)], "trials end in the order of their numbers"
            ended = Ended(self.get_trial(trial_id))
            self._ended.append(ended)
            if state in (TrialState.COMPLETE, TrialState.PRUNED):
                self.columns.append(ended, ended.internal)
        return is_set

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna's, in the order of numbers."""
        if deepcopy:
            return super().get_all_trials(study_id, deepcopy, states)
        running = [self.get_trial(trial_id) for trial_id in self._begun[len(self._ended) :]]
        wanted = tuple(state for state in TrialState if states is None or state in states)
        return [*self._ended_with(wanted), *(trial for trial in running if trial.state in wanted)]

    def _ended_with(self, states: tuple[TrialState, ...]) -> list[FrozenTrial]:
        """The trials that have ended in one of some states; only those new since the last time are looked at."""
        num_seen, found = self._found.get(states, (0, []))
        found += [trial for trial in self._ended[num_seen:] if trial.state in states]
        self._found[states] = len(self._ended), found
        return found
