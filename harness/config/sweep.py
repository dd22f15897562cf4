"""The settings of a sweep file: what is searched, how, with which budget, and how the winners are confirmed.

Typed, frozen, unknown keys refused. `sweep_files.py` reads a file and checks it against its experiment. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, model_validator

from harness.config.base import (
    NUMBER,
    NonNegativeFloat,
    NonNegativeInt,
    PlainSettings,
    PositiveFloat,
    PositiveInt,
    Settings,
)
from harness.config.table import TableSettings

Number = Annotated[float, NUMBER]
Rule = Literal["best", "constrained", "one_se"]
Choice = float | int | str | bool | None


class _Parameter(Settings):
    """Base of the parameter types; `arms` are those that search it (all, when left out)."""

    arms: tuple[str, ...] | None = Field(default=None, description="Arms that search this setting; all when left out.")


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
    """A number, uniform in [low, high]; `grid` gives its values for the grid sampler."""

    type: Literal["float"]
    low: Number
    high: Number
    grid: tuple[Number, ...] | None = None


class LogFloatParameter(_Bounded):
    """A positive number, uniform in its logarithm."""

    type: Literal["log_float"]
    low: PositiveFloat
    high: PositiveFloat
    grid: tuple[PositiveFloat, ...] | None = None


class IntParameter(_Bounded):
    """An integer in low, low + step, ..., high; `log` makes it uniform in its logarithm (with step 1)."""

    type: Literal["int"]
    low: Annotated[int, NUMBER]
    high: Annotated[int, NUMBER]
    step: PositiveInt = 1
    log: bool = False
    grid: tuple[Annotated[int, NUMBER], ...] | None = None

    @model_validator(mode="after")
    def _log_is_possible(self) -> IntParameter:
        if self.log and (self.low < 1 or self.step != 1):
            raise ValueError("log: true needs low of at least 1 and no step")
        if not self.log and (self.high - self.low) % self.step:
            raise ValueError(f"step {self.step} does not lead from low {self.low} to high {self.high}")
        for value in self.grid or ():
            if (value - self.low) % self.step:
                raise ValueError(f"grid: {value} is not low {self.low} plus steps of {self.step}")
        return self


class ZeroOrLogParameter(_Bounded):
    """Exactly 0 with probability `zero_share`, otherwise log-uniform in [low, high].

    For the sampler it is one dimension: positions below `zero_share` mean 0, so every sampler can search it.
    """

    type: Literal["zero_or_log"]
    low: PositiveFloat
    high: PositiveFloat
    zero_share: Annotated[float, Field(gt=0, lt=1), NUMBER] = 0.2
    grid: tuple[NonNegativeFloat, ...] | None = None


class CategoricalParameter(_Parameter):
    """One of some values."""

    type: Literal["categorical"]
    choices: tuple[Choice, ...] = Field(min_length=2)

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
    """A validation metric to optimise; its direction is the metric's own, and may be written out."""

    metric: str
    direction: Literal["maximize", "minimize"] | None = None


class ConstraintSettings(Settings):
    """A bound on a validation metric, in the metric's own unit as recorded (fractions: 0.03 is three points)."""

    metric: str
    at_most: Number | None = None
    at_least: Number | None = None

    @model_validator(mode="after")
    def _has_one_bound(self) -> ConstraintSettings:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("give at_most or at_least, one of the two")
        return self

    def violation(self, valid: Mapping[str, float]) -> float:
        """How far the bound is missed; at most 0 where it holds."""
        value = valid[self.metric]
        return value - self.at_most if self.at_most is not None else float(self.at_least or 0.0) - value


class SamplerSettings(Settings):
    """Optuna's sampler by name, with its own options."""

    name: str = "tpe"
    options: PlainSettings = Field(default_factory=dict)


class PrunerSettings(Settings):
    """Optuna's pruner by name, with its own options; `patient` wraps another one.

    It judges by the objective alone; a trial that meets every constraint at the time is never pruned.
    """

    name: str = "none"
    options: PlainSettings = Field(default_factory=dict)
    wrapped: PrunerSettings | None = None


class BudgetSettings(Settings):
    """What each searched arm may spend, the same for all: a number of trials, or seconds of training."""

    trials: PositiveInt | None = None
    seconds: PositiveFloat | None = None

    @model_validator(mode="after")
    def _has_one_unit(self) -> BudgetSettings:
        if (self.trials is None) == (self.seconds is None):
            raise ValueError("give trials or seconds (for each arm), one of the two")
        return self


class RaceSettings(Settings):
    """More seeds for the most promising configurations before one wins.

    The `candidates` best of each arm train on further `seeds`, one seed a round; a candidate that loses clearly drops
    out (see `freezing.py`).
    """

    candidates: PositiveInt = 3
    seeds: tuple[NonNegativeInt, ...] = ()


class SearchSettings(Settings):
    """How the search draws: `seed` seeds the samplers; each configuration trains once on each of `seeds`.

    `lag`: trial n is drawn from the results of trials 0 to n - lag, whatever else has finished by then. So up to `lag`
    trials run at once, and a search gives the same trials whatever the number of workers, kills and restarts.
    """

    seed: NonNegativeInt = 0
    seeds: tuple[NonNegativeInt, ...] = Field(default=(1000,), min_length=1)
    lag: PositiveInt = 4


class ConfirmSettings(Settings):
    """Which rules pick a winner, and the fresh seeds on which the winners train again."""

    seeds: tuple[NonNegativeInt, ...] = Field(min_length=1)
    rules: tuple[Rule, ...] = Field(default=("best",), min_length=1)
    regularisation: tuple[str, ...] | None = Field(
        default=None,
        description="Searched keys that count as regularisation for one_se; by default p, lambda, weight decay.",
    )


class SweepConfig(Settings):
    """A sweep: an experiment's arms, each tuned with the same budget, frozen, and confirmed on fresh seeds."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    experiment: str = Field(description="The experiment file, relative to this one.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Dotted settings of every trial.")
    arms: tuple[str, ...] | None = Field(
        None, min_length=1, description="The experiment's arms to use; all by default."
    )
    space: dict[str, Parameter] = Field(min_length=1)
    objectives: tuple[ObjectiveSettings, ...] = Field(min_length=1)
    constraints: tuple[ConstraintSettings, ...] = ()
    sampler: SamplerSettings = SamplerSettings()
    pruner: PrunerSettings = PrunerSettings()
    budget: BudgetSettings
    search: SearchSettings = Field(default_factory=SearchSettings)
    race: RaceSettings = RaceSettings()
    confirm: ConfirmSettings
    storage: str | None = Field(default=None, description="URL of a PostgreSQL or MySQL server; by default SQLite.")
    table: TableSettings = TableSettings()

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
    return tuple(
        key
        for key, parameter in config.space.items()
        if key.rsplit(".", 1)[-1] in REGULARISERS and parameter.type != "categorical"
    )
