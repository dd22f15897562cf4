"""What an arm's search knows of its trials without going through all of them, against the plain definitions."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from harness.search.arm_search import ArmSearch
from harness.search.storage import StudyStore
from harness.search.sweep_files import load_sweep

SWEEP = Path(__file__).parents[2] / "sweeps" / "text_depth_x_l2.yaml"
OURS, THEIRS = {"pid": 1}, {"pid": 2}


class Store:
    """A storage that holds what it is given."""

    def __init__(self) -> None:
        self.held: list[FrozenTrial] = []
        self.num_asked = 0

    def trials(self) -> list[FrozenTrial]:
        return self.held[:]

    def owns(self, trial: FrozenTrial) -> bool:
        return bool(trial.user_attrs["owner"] == OURS)

    def orphans(self) -> list[FrozenTrial]:
        self.num_asked += 1
        return [trial for trial in self.held if trial.state == TrialState.RUNNING and not self.owns(trial)]


def stored(number: int, state: TrialState, seconds: float = 0.0, owner: Any = None) -> FrozenTrial:
    values = [0.5] if state == TrialState.COMPLETE else None
    trial = create_trial(state=state, values=values, user_attrs={"seconds": seconds, "owner": owner})
    trial.number = number
    return trial


def make_arm(budget: str) -> tuple[ArmSearch, Store]:
    sweep, store = load_sweep(SWEEP, [f"budget={budget}"]), Store()
    return ArmSearch(sweep, sweep.searched[0], cast(StudyStore, store)), store


def planned(trials: list[FrozenTrial], seconds: float, lag: int) -> int:
    """The definition: `lag` after the first trial that has not ended, or that used up the budget."""
    spent = 0.0
    for number, trial in enumerate(trials):
        if not trial.state.is_finished():
            return number + lag
        spent += trial.user_attrs["seconds"]
        if spent >= seconds:
            return number + lag
    return len(trials) + lag


@pytest.mark.parametrize("budget", ["{trials: 12}", "{seconds: 20}"])
def test_what_is_known_of_the_trials(budget: str) -> None:
    generator = random.Random(0)
    for _ in range(30):
        arm, store = make_arm(budget)
        lag = arm.sweep.config.search.lag
        for _ in range(14):
            if len(store.held) < arm.num_planned and generator.random() < 0.8:
                store.held.append(stored(len(store.held), TrialState.RUNNING, owner=OURS))
            elif store.held:
                number = generator.randrange(len(store.held))
                if store.held[number].state == TrialState.RUNNING:
                    state = generator.choice([TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING])
                    store.held[number] = stored(number, state, generator.uniform(0.0, 6.0), OURS)
            arm.refresh()
            trials = store.held
            ended = [trial.state.is_finished() for trial in trials]
            limit = 12 if "trials" in budget else planned(trials, 20, lag)
            assert arm.num_planned == limit
            assert arm.finished() == (len(trials) >= limit and all(ended[:limit]))
            free = [n for n in range(limit) if n >= len(trials) or trials[n].state == TrialState.WAITING]
            assert arm.next_number() == (free[0] if free else None)
            for number in range(limit):
                history = range(max(0, number - lag + 1))
                assert arm.may_draw(number) == (len(trials) >= len(history) and all(ended[n] for n in history))


def test_the_storage_is_asked_for_orphans_only_if_others_run_trials() -> None:
    arm, store = make_arm("{trials: 12}")
    store.held = [stored(0, TrialState.COMPLETE, owner=THEIRS), stored(1, TrialState.RUNNING, owner=OURS)]
    arm.refresh()
    assert arm.orphans() == [] and store.num_asked == 0
    store.held.append(stored(2, TrialState.RUNNING, owner=THEIRS))
    arm.refresh()
    assert [trial.number for trial in arm.orphans()] == [2] and store.num_asked == 1
