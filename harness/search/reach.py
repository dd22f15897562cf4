"""What a budget lets a sampler and a pruner do: some searches end before their sampler has looked at a single result.

Optuna's samplers draw their first trials at random, and its pruners let the first ones pass. Trial n is drawn from the
results of trials 0 to n - lag, so both begin `lag - 1` trials later than in a search without a lag. The defaults do not
follow the budget: a larger budget has to begin with the very trials of a smaller one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.config.sweep import PrunerSettings, SamplerSettings
from harness.search.declaration import Arm, Sweep
from harness.search.samplers import PRUNERS, SAMPLERS, option_of

BY_RESULTS = ("tpe", "gp", "cma_es", "nsga2")  # the other samplers never look at results


def remarks(sweep: Sweep, num_trials: Mapping[str, int]) -> list[str]:
    """What must be told of the searches of a sweep: samplers that only draw at random, pruners that stop nothing.

    Args:
        num_trials: trials by arm, planned or done; an arm whose number is not known is left out.
    """
    found = []
    for arm in sweep.searched:
        if arm.name in num_trials:
            for text in (
                _at_random(sweep, arm, num_trials[arm.name]),
                _stops_nothing(sweep, arm, num_trials[arm.name]),
            ):
                if text is not None:
                    found.append(f"{arm.name}: {text}")
    return found


def first_informed(sampler: SamplerSettings, num_settings: int, lag: int) -> int | None:
    """The first trial, counted from 0, whose settings depend on results; None where none ever does.

    Args:
        sampler: one of BY_RESULTS.
        num_settings: how many settings are searched.
        lag: of the search.
    """

    def option(name: str) -> Any:
        return option_of(SAMPLERS[sampler.name], name, sampler.options)

    if sampler.name == "nsga2":
        # Every child of a single gene is mutated, which draws it anew: the probability is 1 / number of genes.
        mutates_all = option("mutation_prob") == 1.0 or (option("mutation_prob") is None and num_settings == 1)
        return None if mutates_all else int(option("population_size")) + lag - 1
    if sampler.name == "cma_es":
        # The first generation is drawn around the middle of the space; it is looked at when all of it has ended.
        size = option("popsize") or 4 + math.floor(3 * math.log(num_settings))
        return int(option("n_startup_trials")) + int(size) + 2 * (lag - 1)
    return max(2, int(option("n_startup_trials"))) + lag - 1  # a single result is neither good nor bad


def _at_random(sweep: Sweep, arm: Arm, num_trials: int) -> str | None:
    sampler, lag = sweep.config.sampler, sweep.config.search.lag
    if sampler.name not in BY_RESULTS:
        return None
    first = first_informed(sampler, len(arm.space), lag)
    if first is None:
        return f"sampler {sampler.name} draws every trial at random, since it mutates every setting each time"
    if first < num_trials:
        return None
    return (
        f"sampler {sampler.name} draws its first {first} trials without looking at results (with search.lag {lag}), "
        f"and there are {num_trials}: the search is a random one"
    )


def _stops_nothing(sweep: Sweep, arm: Arm, num_trials: int) -> str | None:
    config = sweep.config
    why = why_idle(
        config.pruner,
        num_epochs=sweep.trial(arm, {}, 0).loop.epochs,
        num_seeds=len(config.search.seeds),
        num_trials=num_trials,
        lag=config.search.lag,
    )
    return None if why is None else f"pruner {config.pruner.name} can stop no trial: {why}"


def why_idle(pruner: PrunerSettings, *, num_epochs: int, num_seeds: int, num_trials: int, lag: int) -> str | None:
    """Why a pruner cannot stop any trial before its end; None where it can."""

    def option(name: str) -> Any:
        return option_of(PRUNERS[pruner.name], name, pruner.options)

    num_steps, num_seen = num_epochs * num_seeds, num_trials - lag  # what the last trial is compared with
    if pruner.name == "none":
        return None
    if num_seen < 1:
        return f"it compares a trial with those that ended {lag} before it (search.lag), and there are {num_trials}"
    if pruner.name == "median":
        needed = max(1, option("n_startup_trials"), option("n_min_trials"))
        if num_seen < needed:
            return f"it needs {needed} finished trials, and the last one is compared with {num_seen}"
        return _why_late(max(1, option("n_warmup_steps")), num_steps)
    if pruner.name == "wilcoxon":
        # All of k differences on one side have p = 2 ** -k (Wilcoxon's signed-rank test, exact).
        least = max(2, option("n_startup_steps"))
        while 0.5**least >= option("p_threshold") > 0:
            least += 1
        if option("p_threshold") == 0 or least >= num_seeds:
            threshold = f"p_threshold {option('p_threshold'):g}"
            return f"with {threshold} it needs more than {least} search.seeds, and there are {num_seeds}"
        return None
    if pruner.name == "patient":
        late = _why_late(option("patience") + 2, num_steps)
        if late is not None or pruner.wrapped is None:
            return late
        options = {"num_epochs": num_epochs, "num_seeds": num_seeds, "num_trials": num_trials, "lag": lag}
        return why_idle(pruner.wrapped, **options)
    first = option("min_resource")
    rung = (1 if first == "auto" else first) * option("reduction_factor") ** _rate(pruner, option)
    return _why_late(rung, num_steps)


def _rate(pruner: PrunerSettings, option: Any) -> int:
    """The exponent of the first rung; of Hyperband's brackets, the one that stops trials first."""
    return int(option("min_early_stopping_rate")) if pruner.name == "successive_halving" else 0


def _why_late(first_step: int, num_steps: int) -> str | None:
    """Why the first step at which a pruner judges is too late."""
    if first_step < num_steps:
        return None
    return f"it judges from step {first_step} on, and a trial has {num_steps} (epochs x seeds)"
