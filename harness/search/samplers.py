"""Optuna's samplers and pruners by the names that a sweep file uses, their options checked before anything trains."""

from __future__ import annotations

import difflib
import inspect
import logging
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

from harness.config.sweep import PrunerSettings, SamplerSettings
from harness.errors import UserError, first_line
from harness.search.joint_tpe import JointTpe

optuna.logging.set_verbosity(optuna.logging.WARNING)
# GP says once a process that it is faster with greenlet; nobody who runs a sweep asked.
logging.getLogger("optuna._gp.batched_lbfgsb").setLevel(logging.ERROR)

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
# What the sweep sets itself, what cannot be written in YAML, and what Optuna is about to remove.
_RESERVED = {
    "self", "seed", "search_space", "constraints_func", "independent_sampler", "warn_independent_sampling",
    "warn_asynchronous_seeding", "gamma", "weights", "mutation", "crossover", "elite_population_selection_strategy",
    "child_generation_strategy", "after_trial_strategy", "source_trials", "wrapped_pruner",
    "x0", "sigma0", "restart_strategy", "inc_popsize", "consider_prior",
}  # fmt: skip
# Below these, Optuna fails in the middle of a search instead of at its start.
_AT_LEAST: dict[str, float] = {
    "n_startup_trials": 0,
    "n_ei_candidates": 1,
    "prior_weight": 1e-6,
    "popsize": 4,
    "min_resource": 1,
    "max_resource": 1,
    "reduction_factor": 2,
    "bootstrap_count": 0,
    "min_early_stopping_rate": 0,
}
# Above these, it takes all memory or hours for a single draw; no other integer is of use above MOST.
_AT_MOST: dict[str, int] = {"n_ei_candidates": 100_000, "popsize": 1000, "min_early_stopping_rate": 60}
MOST = 1_000_000_000
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


def option_of(kind: type, option: str, given: Mapping[str, Any]) -> Any:
    """The value of an option: the given one, or Optuna's default."""
    return given[option] if option in given else inspect.signature(kind).parameters[option].default


def check_choice(what: str, name: str, options: Mapping[str, Any], registry: Mapping[str, type], where: str) -> None:
    """Refuse an unknown name or option, a missing option, and a value that the option cannot have.

    Raises:
        UserError: one line with the choices.
    """
    if name not in registry:
        near = difflib.get_close_matches(name, registry, n=1)
        hint = f". Did you mean {near[0]}?" if near else ""
        raise UserError(f"{where}: {what}.name: unknown {what} {name!r}; choices: {', '.join(registry)}{hint}")
    allowed = options_of(registry[name])
    parameters = inspect.signature(registry[name]).parameters
    for option, value in options.items():
        if option not in allowed:
            known = ", ".join(allowed) or "it has none"
            raise UserError(f"{where}: {what}.options: {name} has no option {option!r}; choices: {known}")
        _check_value(value, option, parameters[option].annotation, f"{where}: {what}.options.{option}")
    for option in allowed:
        if parameters[option].default is inspect.Parameter.empty and option not in options:
            raise UserError(f"{where}: {what}.options.{option}: missing; {name} needs it")


def _check_value(value: Any, option: str, annotation: Any, where: str) -> None:
    """Check an option's value by its annotation in Optuna (a class, or text such as `int | None`)."""
    kinds = [kind.strip() for kind in getattr(annotation, "__name__", str(annotation)).split("|")]
    given = "None" if value is None else type(value).__name__
    if given not in kinds and not (given == "int" and "float" in kinds):
        raise UserError(f"{where}: {value!r} is not of type {' or '.join(kinds)}")
    least = _AT_LEAST.get(option)
    if least is not None and isinstance(value, (int, float)) and value < least:
        raise UserError(f"{where}: must be at least {least:g}, but got {value:g}")
    most = _AT_MOST.get(option, MOST)
    if isinstance(value, int) and value > most:
        raise UserError(f"{where}: must be at most {most}, but got {value}")


def make_sampler(settings: SamplerSettings, seed: int, grid: Mapping[str, Any] | None = None) -> BaseSampler:
    """Build a sampler; `grid` gives every key's values for the grid sampler.

    Raises:
        UserError: an option's value is wrong.
    """
    given: dict[str, Any] = _PINNED.get(settings.name, {}) | settings.options | {"seed": seed}
    if settings.name == "grid":
        # Optuna numbers the points after a shuffle by the seed: with a seed of its own, a trial would count others.
        given |= {"search_space": dict(grid or {}), "seed": 0}
    kind = SAMPLERS[settings.name]
    if kind is TPESampler and given["multivariate"] and not given["group"]:
        kind = JointTpe
    return _build(kind, given, f"sampler {settings.name}")


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
            warnings.simplefilter("error", FutureWarning)  # an option that Optuna is about to remove
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return kind(**given)
    except (TypeError, ValueError, ImportError, FutureWarning) as error:
        raise UserError(f"{what}: {first_line(error)}") from error
