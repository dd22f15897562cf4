"""A search is a pure function of its results: whatever the order they come in, wherever it was stopped."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import NopPruner
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from harness.config.sweep import PrunerSettings, SamplerSettings
from harness.search import mirror, samplers
from harness.search.arm_search import REMEMBERS_NOTHING
from harness.search.mirror import Judge, Mirror, Result
from harness.search.mirror_storage import MirrorStorage
from harness.search.samplers import PRUNERS, SAMPLERS, make_pruner, make_sampler
from harness.seeding import derive_seed

SPACE = {"p": FloatDistribution(0.0, 0.9), "lr": FloatDistribution(1e-4, 1e-1, log=True)}
GRID = {"p": [0.0, 0.3, 0.6, 0.9], "lr": [1e-4, 1e-3, 1e-2, 1e-1]}
NUM, EPOCHS = 24, 6
POINTS = 16  # of the grid
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

    def __init__(self, sampler: str, lag: int, pruner: str = "none", root: int = 0, arm: str = "arm") -> None:
        # GP takes half a second a draw from the first on that looks at results: two of them.
        self.lag, self.num = lag, {"gp": 5 + lag, "grid": POINTS}.get(sampler, NUM)
        self.drawn: dict[int, dict[str, Any]] = {}
        self.results: dict[int, Result] = {}
        wrapped = PrunerSettings(name="median", options=PRUNER_OPTIONS["median"]) if pruner == "patient" else None
        pruning = PrunerSettings(name=pruner, options=PRUNER_OPTIONS.get(pruner, {}), wrapped=wrapped)
        settings = SamplerSettings(name=sampler, options=OPTIONS.get(sampler, {}))

        def seeded(number: int) -> Any:
            names = () if sampler == "qmc" else (number,)
            return make_sampler(settings, derive_seed(root, "sampler", arm, *names) % 2**32, GRID)

        def fresh() -> Mirror:
            distributions: dict[str, BaseDistribution] = dict(SPACE)
            if sampler == "grid":
                distributions = {key: CategoricalDistribution(values) for key, values in GRID.items()}
            return Mirror(
                f"sweep/{arm}", ["maximize"], distributions, seeded, lambda: make_pruner(pruning), lag,
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

    def in_order(self, num: int | None = None) -> Run:
        for number in range(len(self.drawn), self.num if num is None else num):
            self.train(number)
        return self


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Any:
    """Optuna's own log, which goes to the terminal past the warnings."""
    optuna.logging.enable_propagation()
    yield caplog
    optuna.logging.disable_propagation()


@pytest.mark.slow
@pytest.mark.parametrize("lag", [1, 4])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_trials_after_any_restart_and_in_any_order(
    sampler: str, lag: int, logged: pytest.LogCaptureFixture
) -> None:
    whole = Run(sampler, lag).in_order()
    again = Run(sampler, lag)
    for number in range(again.num):  # a new process for every trial
        again.mirror = again.fresh()
        again.train(number)
    assert again.drawn == whole.drawn
    for order in range(1 if sampler == "gp" else 4):
        shuffled, rng = Run(sampler, lag), random.Random(order)
        waiting = list(range(shuffled.num))
        while waiting:  # any trial whose history is finished may come next
            ready = [n for n in waiting if all(k in shuffled.results for k in shuffled.mirror.history(n))]
            number = rng.choice(ready[:lag])
            shuffled.train(number)
            waiting.remove(number)
        assert shuffled.drawn == whole.drawn
        assert shuffled.results == whole.results
    assert [record.getMessage() for record in logged.records if record.levelno >= logging.WARNING] == []


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_more_budget_is_more_of_the_same(sampler: str) -> None:
    grown = Run(sampler, 2)
    first = dict(grown.in_order(grown.num // 2).drawn)
    grown.mirror = grown.fresh()
    grown.in_order()
    assert {n: grown.drawn[n] for n in first} == first
    assert grown.drawn == Run(sampler, 2).in_order().drawn


@pytest.mark.parametrize("pruner", ["none", "successive_halving"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_draws_are_those_of_optunas_own_storage_and_sampler(
    sampler: str, pruner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a mirror keeps of ended trials, and of their parameters, saves time and nothing else."""
    ours = Run(sampler, 2, pruner).in_order()
    assert type(ours.mirror.storage) is MirrorStorage
    monkeypatch.setattr(mirror, "MirrorStorage", InMemoryStorage)
    monkeypatch.setattr(samplers, "JointTpe", TPESampler)
    optunas = Run(sampler, 2, pruner).in_order()
    assert type(optunas.mirror.storage) is InMemoryStorage
    assert optunas.drawn == ours.drawn and optunas.results == ours.results


@pytest.mark.parametrize("options", [{}, {"multivariate": False}, {"group": True}])
def test_tpe_draws_what_optunas_own_draws(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a parameter that has no choice, with trials that failed, and with options that draw otherwise."""
    monkeypatch.setitem(OPTIONS, "tpe", {"n_startup_trials": 4, **options})
    monkeypatch.setitem(SPACE, "one", CategoricalDistribution([3]))
    ours = Run("tpe", 1).in_order()
    kind = type(ours.mirror.study.sampler)
    assert (kind is TPESampler) == bool(options)
    monkeypatch.setattr(samplers, "JointTpe", TPESampler)
    assert Run("tpe", 1).in_order().drawn == ours.drawn


@pytest.mark.parametrize("options", [{}, {"constant_liar": False}])
@pytest.mark.parametrize("states", ["complete", "violated", "pruned", "mixed"])
@pytest.mark.parametrize("directions", [["maximize"], ["minimize"], ["maximize", "minimize"]])
def test_tpe_splits_hundreds_of_trials_as_optunas_own_does(
    directions: list[str], states: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With results that are equal, constraints that do not hold, and too few complete trials for the good ones."""
    space: dict[str, BaseDistribution] = {
        "rate": FloatDistribution(1e-4, 1e-1, log=True),
        "dim": IntDistribution(1, 64, log=True),
        "kind": CategoricalDistribution(["a", "b", "c"]),
        "share": FloatDistribution(0.0, 1.0, step=0.1),
    }

    def result(number: int) -> Result:
        rng = random.Random(f"{states}/{number}")
        shares = {"complete": 0.0, "violated": 0.0, "pruned": 0.98, "mixed": 0.4}
        if rng.random() < shares[states]:
            # Optuna takes no reports of steps where there are several objectives.
            steps = {step: rng.random() for step in range(rng.randint(0, 3))} if len(directions) == 1 else {}
            return Result(TrialState.PRUNED, None, (), steps)
        if rng.random() < 0.05:
            return Result(TrialState.FAIL)
        violations = (rng.uniform(-1, 0.02), rng.uniform(-1, 1)) if states in ("violated", "mixed") else ()
        return Result(TrialState.COMPLETE, tuple(round(rng.gauss(0, 1), 1) for _ in directions), violations)

    def known(number: int) -> dict[str, Any] | None:
        rng = random.Random(number)
        drawn = {"rate": 10 ** rng.uniform(-4, -1), "dim": rng.randint(1, 64), "kind": rng.choice("abc")}
        return {**drawn, "share": rng.randint(0, 10) / 10} if number < 400 else None

    def draws() -> list[dict[str, Any]]:
        settings = SamplerSettings(name="tpe", options=options)
        one = Mirror("s", directions, space, lambda n: make_sampler(settings, n), NopPruner, 3, result, known)
        return [one.ask(number) for number in range(400, 412)]

    ours = draws()
    monkeypatch.setattr(mirror, "MirrorStorage", InMemoryStorage)
    monkeypatch.setattr(samplers, "JointTpe", TPESampler)
    assert draws() == ours


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "grid"])
def test_seeds_and_arms_draw_differently(sampler: str) -> None:
    drawn = [run.in_order(6).drawn for run in (Run(sampler, 2), Run(sampler, 2, root=1), Run(sampler, 2, arm="other"))]
    assert drawn[0] != drawn[1] and drawn[0] != drawn[2] and drawn[1] != drawn[2]


@pytest.mark.parametrize("lag", [1, 3, 16])
@pytest.mark.parametrize("root", [0, 1])
def test_a_grid_has_every_point_once(lag: int, root: int) -> None:
    drawn = Run("grid", lag, root=root).in_order().drawn
    assert len({tuple(values.values()) for values in drawn.values()}) == 16


@pytest.mark.parametrize("lag", [1, 4])
def test_a_quasi_random_sequence_goes_on_while_trials_run(lag: int) -> None:
    space = {**SPACE, "activation": CategoricalDistribution(["relu", "swish", "gelu"])}
    good = Result(TrialState.COMPLETE, (1.0,))
    mirror = Mirror(
        "s/a", ["maximize"], space, lambda n: make_sampler(SamplerSettings(name="qmc"), 7),
        lambda: make_pruner(PrunerSettings()), lag, lambda n: good,
    )  # fmt: skip
    drawn = [mirror.ask(number) for number in range(17)]
    assert len({values["lr"] for values in drawn}) == 17
    assert {values["activation"] for values in drawn} == {"relu", "swish", "gelu"}
    quarters = [int(values["p"] / 0.9 * 4) for values in drawn[1:]]  # the first is drawn apart
    assert sorted(quarters) == sorted([0, 1, 2, 3] * 4)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_trial_is_drawn_from_its_history_and_from_nothing_later(sampler: str) -> None:
    lag, number = 4, 8 if sampler == "gp" else 12
    whole = Run(sampler, lag).in_order(number + 1)
    inside, outside = Run(sampler, lag).in_order(number + 1), Run(sampler, lag).in_order(number + 1)
    for run, changed in ((inside, [number - lag]), (outside, range(number - lag + 1, number))):
        for other in changed:
            assert (other in run.mirror.history(number)) == (run is inside)
            run.results[other] = Result(TrialState.COMPLETE, (5.0,), (-1.0,), {1: 5.0})
        run.mirror = run.fresh()
    assert outside.mirror.ask(number) == whole.drawn[number]
    if sampler in ("tpe", "gp"):
        assert inside.mirror.ask(number) != whole.drawn[number]


@pytest.mark.parametrize("sampler", REMEMBERS_NOTHING)
def test_what_is_known_need_not_be_drawn_again(sampler: str) -> None:
    """All but the last of the trials that have ended are adopted; what follows is drawn as if all had been drawn."""
    whole = Run(sampler, 3).in_order()
    fresh, drawn = whole.fresh(), list[int]()
    seeded = fresh.make_sampler

    def counted(number: int) -> Any:
        drawn.append(number)
        return seeded(number)

    fresh.make_sampler, num_known = counted, whole.num - 4
    fresh.known = lambda number: whole.drawn[number] if number < num_known else None
    assert [fresh.ask(number) for number in range(whole.num)] == [*whole.drawn.values()]
    assert drawn == list(range(num_known, whole.num))


@pytest.mark.slow
def test_a_restart_after_300_trials_draws_the_same() -> None:
    run = Run("tpe", 4, "hyperband").in_order(300)
    assert run.fresh().ask(299) == run.drawn[299]  # it draws them all again


@pytest.mark.parametrize("pruner", [name for name in PRUNERS if name not in ("none", "wilcoxon")])
def test_pruning_is_the_same_after_a_restart_and_with_later_results_known(pruner: str) -> None:
    whole = Run("random", 3, pruner).in_order(24)
    pruned = [n for n, result in whole.results.items() if result.state == TrialState.PRUNED]
    assert pruned and len(pruned) < 24
    for number in range(24):
        mirror = whole.fresh()  # a new process; what is no history of this trial must not matter
        known = dict(whole.results)
        for later in range(len(mirror.history(number)), 24):
            known[later] = Result(TrialState.COMPLETE, (9.0,), (), {epoch: 9.0 for epoch in range(1, EPOCHS + 1)})
        mirror.result = known.__getitem__
        judge = mirror.judge(number)
        steps = whole.results[number].steps
        answers = [judge.report(step, value) for step, value in steps.items()]
        assert answers == [False] * (len(steps) - 1) + [number in pruned]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("pruner", [name for name in PRUNERS if name not in ("none", "wilcoxon")])
def test_a_bad_curve_is_pruned_and_a_good_one_kept(pruner: str, direction: str) -> None:
    sign = 1.0 if direction == "maximize" else -1.0
    curves = {n: {epoch: sign * (0.5 + 0.01 * n + 0.02 * epoch) for epoch in range(1, EPOCHS + 1)} for n in range(12)}
    results = {
        n: Result(TrialState.FAIL, None, (), {1: steps[1]})
        if n % 5 == 4
        else Result(TrialState.COMPLETE, (steps[EPOCHS],), (), steps)
        for n, steps in curves.items()
    }
    wrapped = PrunerSettings(name="median", options=PRUNER_OPTIONS["median"]) if pruner == "patient" else None
    settings = PrunerSettings(name=pruner, options=PRUNER_OPTIONS[pruner], wrapped=wrapped)
    mirror = Mirror(
        "s/a", [direction], SPACE, lambda n: make_sampler(SamplerSettings(name="random"), n),
        lambda: make_pruner(settings), 1, results.__getitem__,
    )  # fmt: skip
    good, bad = mirror.judge(12), mirror.judge(12)
    assert not any(good.report(epoch, sign * (0.9 + 0.02 * epoch)) for epoch in range(1, EPOCHS + 1))
    assert any(bad.report(epoch, sign * (0.1 - 0.02 * epoch)) for epoch in range(1, EPOCHS + 1))


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
