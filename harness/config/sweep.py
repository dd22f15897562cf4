"""The settings of a sweep file: what is searched, how, with which budget, and how the winners are confirmed.

Typed, frozen, unknown keys refused. `sweep_files.py` reads a file and checks it against its experiment. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Discriminator, Field, model_validator

from harness.config.base import (
    NUMBER,
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    OneLine,
    PlainSettings,
    PositiveFloat,
    PositiveInt,
    Settings,
)
from harness.config.execution import LauncherSetting
from harness.config.rows import Rule
from harness.config.table import TableSettings

Goal = Literal["maximize", "minimize"]

Number = Annotated[float, NUMBER]
Choice = float | int | str | bool | None


class _Parameter(Settings):
    """Base of the parameter types."""

    arms: tuple[str, ...] | None = None
    """The arms that search this setting; all when left out."""


class _Bounded(_Parameter):
    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> _Bounded:
        low, high = getattr(self, "low"), getattr(self, "high")  # noqa: B009 - declared by each type
        if low >= high:
            raise ValueError(f"low {low:g} must be below high {high:g}")
        zero = isinstance(self, ZeroOrLogParameter)
        for value in getattr(self, "grid", None) or ():
            if not (low <= value <= high or (zero and value == 0)):
                raise ValueError(f"grid: {value:g} lies outside of {low:g} to {high:g}")
        return self


class FloatParameter(_Bounded):
    """A number, uniform between two bounds."""

    type: Literal["float"]
    """A number, uniform between `low` and `high`."""
    low: Number
    """The smallest value."""
    high: Number
    """The largest value."""
    grid: tuple[Number, ...] | None = None
    """The values that the grid sampler tries."""


class LogFloatParameter(_Bounded):
    """A positive number, uniform in its logarithm."""

    type: Literal["log_float"]
    """A positive number whose logarithm is uniform."""
    low: PositiveFloat
    """The smallest value."""
    high: PositiveFloat
    """The largest value."""
    grid: tuple[PositiveFloat, ...] | None = None
    """The values that the grid sampler tries."""


class IntParameter(_Bounded):
    """An integer in low, low + step, ..., high."""

    type: Literal["int"]
    """An integer, uniform between `low` and `high`."""
    low: Annotated[int, NUMBER]
    """The smallest value."""
    high: Annotated[int, NUMBER]
    """The largest value."""
    step: PositiveInt = 1
    """The distance between neighbouring values."""
    log: bool = False
    """Whether the logarithm is uniform; this needs a step of 1."""
    grid: tuple[Annotated[int, NUMBER], ...] | None = None
    """The values that the grid sampler tries."""

    @model_validator(mode="after")
    def _log_is_possible(self) -> IntParameter:
        if self.log and (self.low < 1 or self.step != 1):
            raise ValueError("log: true needs low of at least 1 and no step")
        if not self.log and (self.high - self.low) % self.step:
            raise ValueError(f"step {self.step} does not lead from low {self.low} to high {self.high} exactly")
        for value in self.grid or ():
            if (value - self.low) % self.step:
                raise ValueError(f"grid: {value} is not reached from low {self.low} in steps of {self.step}")
        return self


class ZeroOrLogParameter(_Bounded):
    """Exactly 0, or a number whose logarithm is uniform.

    For the sampler it is one dimension: positions below `zero_share` mean 0, so every sampler can search it.
    """

    type: Literal["zero_or_log"]
    """Exactly 0 with probability `zero_share`; otherwise a number whose logarithm is uniform."""
    low: PositiveFloat
    """The smallest value that is not 0."""
    high: PositiveFloat
    """The largest value."""
    zero_share: Annotated[float, Field(gt=0, lt=1), NUMBER] = 0.2
    """The probability of exactly 0."""
    grid: tuple[NonNegativeFloat, ...] | None = None
    """The values that the grid sampler tries; 0 may be among them."""


class CategoricalParameter(_Parameter):
    """One of some values."""

    type: Literal["categorical"]
    """One of some values."""
    choices: tuple[Choice, ...] = Field(min_length=2)
    """The values."""

    @model_validator(mode="after")
    def _choices_differ(self) -> CategoricalParameter:
        if len(set(self.choices)) != len(self.choices):  # for Optuna too, 1, 1.0 and true are one value
            raise ValueError(f"choices: {list(self.choices)} names a value twice")
        return self


Parameter = Annotated[
    FloatParameter | LogFloatParameter | IntParameter | ZeroOrLogParameter | CategoricalParameter,
    Discriminator("type"),
]


class ObjectiveSettings(Settings):
    """A validation metric to optimise."""

    metric: str
    """The metric, as `valid_target/macro_f1` or `valid_forgetting`."""
    direction: Goal | None = None
    """Which direction is better. The metric knows; if it is written out, it is checked."""


class ConstraintSettings(Settings):
    """A bound on a validation metric, as a fraction: 0.03 is three points. Give one of the two bounds."""

    metric: str
    """The metric, as `valid_forgetting`."""
    at_most: Number | None = None
    """The largest value that is allowed."""
    at_least: Number | None = None
    """The smallest value that is allowed."""

    @model_validator(mode="after")
    def _has_one_bound(self) -> ConstraintSettings:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("give at_most or at_least: exactly one of the two")
        return self

    def violation(self, valid: Mapping[str, float]) -> float:
        """How far the bound is missed; at most 0 where it holds."""
        value = valid[self.metric]
        return value - self.at_most if self.at_most is not None else float(self.at_least or 0.0) - value


class SamplerSettings(Settings):
    """The sampler that proposes each next configuration; it is Optuna's."""

    name: str = "tpe"
    """tpe, random, qmc, gp, cma_es, nsga2 or grid."""
    options: PlainSettings = Field(default_factory=dict)
    """The arguments of Optuna's class, as `n_startup_trials: 6`."""


class PrunerSettings(Settings):
    """The pruner that stops trials early; it is Optuna's.

    It judges by the objective alone. Trials that satisfy all constraints at the time are never pruned.
    """

    name: str = "none"
    """none, median, hyperband, successive_halving, wilcoxon or patient."""
    options: PlainSettings = Field(default_factory=dict)
    """The arguments of Optuna's class, as `n_warmup_steps: 3`."""
    wrapped: PrunerSettings | None = None
    """The pruner that `patient` waits for."""


class BudgetSettings(Settings):
    """What each searched arm may spend, the same for all. Give one of the two."""

    trials: PositiveInt | None = None
    """How many trials each arm trains."""
    seconds: PositiveFloat | None = None
    """How many seconds of training each arm has."""

    @model_validator(mode="after")
    def _has_one_unit(self) -> BudgetSettings:
        if (self.trials is None) == (self.seconds is None):
            raise ValueError("give trials or seconds (for each arm): exactly one of the two")
        return self


class RaceSettings(Settings):
    """More seeds for the most promising configurations before one wins.

    They train on one further seed a round, and a candidate that clearly loses drops out.
    """

    candidates: PositiveInt = 3
    """How many configurations of each arm take part."""
    seeds: tuple[NonNegativeInt, ...] = ()
    """The seeds of the rounds; none by default, so that the best trial of the search wins. Where there are any, they
    alone judge: the seed of the search, on which a candidate was found, is left out. A bound for the rule `constrained`
    needs two, and is narrow enough to be of use from about four on."""


Judging = TypeVar("Judging")


def that_judge(searched: Judging, raced: Judging) -> Judging:
    """Of what belongs to the search's seeds and to the race's: the race's alone, where there was a race."""
    return raced or searched


class SearchSettings(Settings):
    """How the search draws its trials."""

    seed: NonNegativeInt = 0
    """Seeds the sampler."""
    seeds: tuple[NonNegativeInt, ...] = Field(default=(1000,), min_length=1)
    """Each configuration is trained once on each of these seeds."""
    lag: PositiveInt = 4
    """Trial n is drawn from the results of trials 0 to n - lag, whatever else has finished by then. So at most `lag`
    trials run at once, and the trials are the same however many workers there are and however often they stop."""


class ConfirmSettings(Settings):
    """Which rules pick a winner, and the fresh seeds on which the winners train again."""

    seeds: tuple[NonNegativeInt, ...] = Field(min_length=1)
    """The fresh seeds; none of them may be a seed of the search or the race."""
    rules: tuple[Rule, ...] = Field(default=("best",), min_length=1)
    """best: the best score. constrained: the best whose one-sided 95 % bound satisfies the constraints. one_se: the
    most strongly regularised within one standard error of the best, so at least two seeds must judge. Each rule gives
    rows of its own."""
    regularisation: tuple[str, ...] | None = None
    """The searched settings that `one_se` counts as regularisation: by default stochastic depth, l2_lambda and weight
    decay."""


class SweepConfig(Settings):
    """A sweep: an experiment's arms, each tuned with the same budget, frozen, and confirmed on fresh seeds."""

    name: Name
    """The sweep's name; its records are kept in `results/NAME`."""
    description: OneLine = ""
    """One line that becomes the table's title."""
    experiment: str
    """The experiment file: a path from the folder of this file, or from the current folder; or the name of an
    experiment that comes with harness (`demo_text`)."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Dotted settings of every trial (`loop.epochs: 8`), above what the experiment says."""
    arms: tuple[str, ...] | None = Field(None, min_length=1)
    """The experiment's arms to use; all by default. An arm that searches nothing is trained as it is."""
    space: dict[str, Parameter] = Field(min_length=1)
    """What is searched: dotted settings, and the range of each."""
    objectives: tuple[ObjectiveSettings, ...] = Field(min_length=1)
    """What is optimised; with several, the sampler searches for all of them and the first one picks the winner."""
    constraints: tuple[ConstraintSettings, ...] = ()
    """What a winner of the rule `constrained` must satisfy."""
    sampler: SamplerSettings = SamplerSettings()
    """How the next configuration is proposed."""
    pruner: PrunerSettings = PrunerSettings()
    """Which trials are stopped early."""
    budget: BudgetSettings
    """What each arm may spend."""
    search: SearchSettings = Field(default_factory=SearchSettings)
    """Seeds of the search."""
    race: RaceSettings = RaceSettings()
    """More seeds for the best configurations, before one wins."""
    confirm: ConfirmSettings
    """How winners are picked, and the fresh seeds that confirm them."""
    storage: str | None = None
    """Where Optuna's view of the search is written while it runs: the URL of a PostgreSQL or MySQL server, or a SQLite
    file; by default `study.db` in the sweep's results. Nothing is read from it, so no search waits for it or fails with
    it. `env:NAME` reads the URL from an environment variable, so that no file or command line holds its password."""
    table: TableSettings = TableSettings()
    """What the table shows."""
    launcher: LauncherSetting = None
    """Where the trials run: a launcher's name, or a mapping of its `name` and its
    [options](launchers.md), as `{name: slurm, partition: gpu}`; by default that of the experiment. `--launcher`
    replaces it. It is no part of a trial's config or id."""

    @model_validator(mode="after")
    def _seeds_are_apart(self) -> SweepConfig:
        groups = {"search.seeds": self.search.seeds, "race.seeds": self.race.seeds, "confirm.seeds": self.confirm.seeds}
        seen: dict[int, str] = {}
        for name, seeds in groups.items():
            for seed in seeds:
                if seed in seen:
                    also = f"also in {seen[seed]}" if seen[seed] != name else "given twice"
                    raise ValueError(f"{name}: seed {seed} is {also}; every seed is drawn for one purpose only")
                seen[seed] = name
        return self


REGULARISERS = ("stochastic_depth", "l2_lambda", "weight_decay")


def regularisation_keys(config: SweepConfig) -> tuple[str, ...]:
    """The searched settings that count as regularisation for `one_se`."""
    if config.confirm.regularisation is not None:
        return config.confirm.regularisation
    return regularisers({key: parameter.type for key, parameter in config.space.items()})


def regularisers(types: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of known regularisers that have an order, among searched settings by the type of their range."""
    return tuple(key for key, kind in types.items() if key.rsplit(".", 1)[-1] in REGULARISERS and kind != "categorical")
