"""A search is a pure function of its results: whatever the order they come in, wherever it was stopped."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from harness.seeding import derive_seed
from harness.sweep.mirror import Judge, Mirror, Result
from harness.sweep.samplers import PRUNERS, SAMPLERS, make_pruner, make_sampler
from harness.sweep.settings import PrunerSettings, SamplerSettings

SPACE = {"p": FloatDistribution(0.0, 0.9), "lr": FloatDistribution(1e-4, 1e-1, log=True)}
GRID = {"p": [0.0, 0.3, 0.6, 0.9], "lr": [1e-4, 1e-3, 1e-2, 1e-1]}
NUM, EPOCHS = 16, 6
OPTIONS: dict[str, dict[str, Any]] = {
    "tpe": {"n_startup_trials": 4},
    "gp": {"n_startup_trials": 4},
    "nsga2": {"population_size": 4},
}
PRUNER_OPTIONS: dict[str, dict[str, Any]] = {
    "median": {"n_startup_trials": 3},
    "hyperband": {"min_resource": 1, "max_resource": EPOCHS, "reduction_factor": 2},
    "successive_halving": {"min_resource": 1, "reduction_factor": 2},
    "patient": {"patience": 1},
}


class Run:
    """A search with a made-up objective, run by any schedule that the lag allows."""

    def __init__(self, sampler: str, lag: int, pruner: str = "none", root: int = 0) -> None:
        self.lag = lag
        self.drawn: dict[int, dict[str, Any]] = {}
        self.results: dict[int, Result] = {}
        wrapped = PrunerSettings(name="median", options=PRUNER_OPTIONS["median"]) if pruner == "patient" else None
        pruning = PrunerSettings(name=pruner, options=PRUNER_OPTIONS.get(pruner, {}), wrapped=wrapped)
        settings = SamplerSettings(name=sampler, options=OPTIONS.get(sampler, {}))

        def seeded(number: int) -> Any:
            names = () if sampler == "qmc" else (number,)
            return make_sampler(settings, derive_seed(root, "sampler", "arm", *names) % 2**32, GRID)

        def fresh() -> Mirror:
            distributions: dict[str, Any] = dict(SPACE)
            if sampler == "grid":
                from optuna.distributions import CategoricalDistribution

                distributions = {key: CategoricalDistribution(values) for key, values in GRID.items()}
            return Mirror(
                "sweep/arm", ["maximize"], distributions, seeded, lambda: make_pruner(pruning), lag,
                lambda number: self.results[number],
            )  # fmt: skip

        self.fresh: Callable[[], Mirror] = fresh
        self.mirror = fresh()

    def train(self, number: int) -> None:
        """Draw a trial, 'train' it, judging each epoch, and keep its result; every fifth one fails."""
        drawn = self.drawn[number] = self.mirror.ask(number)
        judge: Judge = self.mirror.judge(number)
        steps: dict[int, float] = {}
        for epoch in range(1, EPOCHS + 1):
            steps[epoch] = self.value(drawn) * (1 - 0.5**epoch) + 0.02 * ((number * 7 + epoch * 3) % 5)
            if judge.report(epoch, steps[epoch]):
                self.results[number] = Result(TrialState.PRUNED, None, (), steps)
                return
        state = TrialState.FAIL if number % 5 == 4 else TrialState.COMPLETE
        values = (steps[EPOCHS],) if state == TrialState.COMPLETE else None
        self.results[number] = Result(state, values, (drawn["p"] - 0.5,) if values else (), steps)

    @staticmethod
    def value(drawn: dict[str, Any]) -> float:
        return float(1.0 - (drawn["p"] - 0.4) ** 2 - abs(drawn["lr"] - 1e-2))

    def in_order(self, num: int = NUM) -> Run:
        for number in range(len(self.drawn), num):
            self.train(number)
        return self


@pytest.mark.parametrize("lag", [1, 4])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_trials_after_any_restart_and_in_any_order(sampler: str, lag: int) -> None:
    whole = Run(sampler, lag).in_order()
    again = Run(sampler, lag)
    for number in range(NUM):  # a new process for every trial
        again.mirror = again.fresh()
        again.train(number)
    assert again.drawn == whole.drawn
    shuffled, rng = Run(sampler, lag), random.Random(lag)
    waiting = list(range(NUM))
    while waiting:  # any trial whose history is finished may come next
        ready = [n for n in waiting if all(k in shuffled.results for k in shuffled.mirror.history(n))]
        number = rng.choice(ready)
        shuffled.train(number)
        waiting.remove(number)
    assert shuffled.drawn == whole.drawn
    assert shuffled.results == whole.results


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "cma_es", "nsga2"])
def test_more_budget_is_more_of_the_same_and_seeds_differ(sampler: str) -> None:
    grown = Run(sampler, 2).in_order(NUM // 2)
    first = dict(grown.drawn)
    grown.mirror = grown.fresh()
    grown.in_order()
    assert {n: grown.drawn[n] for n in first} == first
    assert grown.drawn == Run(sampler, 2).in_order().drawn
    assert Run(sampler, 2, root=1).in_order().drawn != grown.drawn


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_trial_is_drawn_from_its_history_and_from_nothing_later(sampler: str) -> None:
    lag, number = 4, 12
    whole = Run(sampler, lag).in_order()
    inside, outside = Run(sampler, lag).in_order(), Run(sampler, lag).in_order()
    for run, changed in ((inside, number - lag), (outside, number - lag + 1)):
        assert (changed in run.mirror.history(number)) == (run is inside)
        run.results[changed] = Result(TrialState.COMPLETE, (5.0,), (-1.0,), {1: 5.0})
        run.mirror = run.fresh()
    assert outside.mirror.ask(number) == whole.drawn[number]
    assert inside.mirror.ask(number) != whole.drawn[number]


@pytest.mark.parametrize("pruner", [name for name in PRUNERS if name not in ("none", "wilcoxon")])
def test_pruning_is_the_same_after_a_restart_and_with_later_results_known(pruner: str) -> None:
    whole = Run("random", 3, pruner).in_order(24)
    pruned = [n for n, result in whole.results.items() if result.state == TrialState.PRUNED]
    assert pruned and len(pruned) < 24
    for number in range(24):
        judge = whole.fresh().judge(number)  # a new process that knows every result
        steps = whole.results[number].steps
        answers = [judge.report(step, value) for step, value in steps.items()]
        assert answers == [False] * (len(steps) - 1) + [number in pruned]


def test_constraints_reach_the_sampler() -> None:
    free, bound = Run("tpe", 1).in_order(), Run("tpe", 1).in_order()
    for number, result in bound.results.items():
        if result.values is not None:
            free.results[number] = Result(result.state, result.values, (-1.0,), result.steps)
            bound.results[number] = Result(result.state, result.values, (-1.0 if number % 2 else 1.0,), result.steps)
    free.mirror, bound.mirror = free.fresh(), bound.fresh()
    assert free.mirror.ask(NUM) != bound.mirror.ask(NUM)


def test_wilcoxon_compares_seeds() -> None:
    settings = PrunerSettings(name="wilcoxon", options={"p_threshold": 0.2})
    steps = {0: 0.8, 1: 0.82, 2: 0.81, 3: 0.8, 4: 0.83}
    good = Result(TrialState.COMPLETE, (0.81,), (), steps)
    mirror = Mirror(
        "s/a", ["maximize"], SPACE, lambda n: make_sampler(SamplerSettings(name="random"), n),
        lambda: make_pruner(settings), 1, lambda number: good,
    )  # fmt: skip
    judge = mirror.judge(1)
    worse = [judge.report(step, value - 0.3) for step, value in steps.items()]
    assert worse[-1] and not worse[0]
    equal = mirror.judge(1)
    assert not any(equal.report(step, value) for step, value in steps.items())
