"""Optuna's samplers and pruners by the names that a sweep file uses, their options checked before anything trains."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from harness.errors import UserError
from harness.sweep.settings import PrunerSettings, SamplerSettings

optuna.logging.set_verbosity(optuna.logging.WARNING)

SAMPLERS: dict[str, type[BaseSampler]] = {
    "tpe": TPESampler,
    "random": RandomSampler,
    "qmc": QMCSampler,
    "gp": GPSampler,
    "cma_es": CmaEsSampler,
    "nsga2": NSGAIISampler,
    "grid": GridSampler,
}
PRUNERS: dict[str, type[BasePruner]] = {
    "none": NopPruner,
    "median": MedianPruner,
    "hyperband": HyperbandPruner,
    "successive_halving": SuccessiveHalvingPruner,
    "wilcoxon": WilcoxonPruner,
    "patient": PatientPruner,
}
MULTI_OBJECTIVE = ("tpe", "random", "qmc", "gp", "nsga2", "grid")
# What the sweep sets itself, or what cannot be written in YAML.
_RESERVED = {
    "self", "seed", "search_space", "constraints_func", "independent_sampler", "warn_independent_sampling",
    "warn_asynchronous_seeding", "gamma", "weights", "mutation", "crossover", "elite_population_selection_strategy",
    "child_generation_strategy", "after_trial_strategy", "source_trials", "wrapped_pruner",
}  # fmt: skip
# Written out, because Optuna's defaults have changed between versions and would change a search silently.
_PINNED: dict[str, dict[str, Any]] = {
    "tpe": {"multivariate": True, "constant_liar": True, "group": False},
    "qmc": {"scramble": True, "warn_asynchronous_seeding": False, "warn_independent_sampling": False},
    "gp": {"warn_independent_sampling": False},
    "cma_es": {"warn_independent_sampling": False},
}


def options_of(kind: type) -> list[str]:
    """The options of a sampler or pruner that a sweep file may set."""
    return [name for name in inspect.signature(kind).parameters if name not in _RESERVED]


def check_choice(what: str, name: str, options: Mapping[str, Any], registry: Mapping[str, type], where: str) -> None:
    """Refuse an unknown name or option.

    Raises:
        UserError: one line with the choices.
    """
    if name not in registry:
        near = difflib.get_close_matches(name, registry, n=1)
        hint = f". Did you mean {near[0]}?" if near else ""
        raise UserError(f"{where}: {what}.name: unknown {what} {name!r}; choices: {', '.join(registry)}{hint}")
    allowed = options_of(registry[name])
    for option in options:
        if option not in allowed:
            known = ", ".join(allowed) or "it has none"
            raise UserError(f"{where}: {what}.options: {name} has no option {option!r}; choices: {known}")


def make_sampler(settings: SamplerSettings, seed: int, grid: Mapping[str, Any] | None = None) -> BaseSampler:
    """Build a sampler; `grid` gives every key's values for the grid sampler.

    Raises:
        UserError: an option's value is wrong.
    """
    given: dict[str, Any] = _PINNED.get(settings.name, {}) | settings.options | {"seed": seed}
    if settings.name == "grid":
        given["search_space"] = dict(grid or {})
    return _build(SAMPLERS[settings.name], given, f"sampler {settings.name}")


def make_pruner(settings: PrunerSettings) -> BasePruner:
    """Build a pruner.

    Raises:
        UserError: an option's value is wrong.
    """
    given = dict(settings.options)
    if settings.name == "patient":
        given["wrapped_pruner"] = None if settings.wrapped is None else make_pruner(settings.wrapped)
    return _build(PRUNERS[settings.name], given, f"pruner {settings.name}")


def _build(kind: Callable[..., Any], given: dict[str, Any], what: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return kind(**given)
    except (TypeError, ValueError, ImportError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{what}: {first}") from error
