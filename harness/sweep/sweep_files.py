"""From a sweep file to a validated `Sweep`: every field checked against the experiment before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from harness.backbones.recipe import SpeechEncoderSettings, load_recipe
from harness.config import ExperimentConfig, TrialConfig
from harness.errors import UserError, must_be_in
from harness.experiment_files import (
    Experiment,
    PlannedTrial,
    load_experiment,
    one_line,
    parse_overrides,
    resolve_trial,
)
from harness.metrics import validation_metrics
from harness.setting_trees import merge, set_dotted, unshared
from harness.settings import content_hash
from harness.sweep import space
from harness.sweep.points import Axis, Objective, Value
from harness.sweep.settings import Parameter, SweepConfig
from harness.sweep.sweep_checks import check_sweep
from harness.table_checks import check_table
from harness.yaml_files import read_yaml

KEEPS_NAME = ("budget", "storage", "name")  # overrides of these go on with the same study


@dataclass(frozen=True)
class Arm:
    """One arm of a sweep: its trials' settings, and what is searched (nothing for a baseline)."""

    name: str
    settings: Mapping[str, Any]
    space: Mapping[str, Parameter]

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The searched settings as figures and rules see them."""
        return tuple(space.axis_of(key, parameter) for key, parameter in self.space.items())


@dataclass(frozen=True)
class Sweep:
    """A validated sweep."""

    config: SweepConfig
    experiment: Experiment
    arms: tuple[Arm, ...]
    objectives: tuple[Objective, ...]
    path: Path

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def grid(self) -> bool:
        """Whether the sampler goes through a grid."""
        return self.config.sampler.name == "grid"

    @property
    def searched(self) -> tuple[Arm, ...]:
        """The arms that are tuned."""
        return tuple(arm for arm in self.arms if arm.space)

    def num_trials(self, arm: Arm) -> int | None:
        """How many trials an arm's search has; None when its budget is in seconds."""
        return self.config.budget.trials

    def trial(self, arm: Arm, values: Mapping[str, Value], seed: int) -> TrialConfig:
        """The trial of an arm with some searched values.

        Raises:
            UserError: the values do not fit the arm.
        """
        settings = unshared(dict(arm.settings))
        for key, value in values.items():
            set_dotted(settings, key, value, f"{self.path}: space.{key}, arm {arm.name}")
        return resolve_trial({**settings, "seed": seed}, f"{self.path}: arm {arm.name}")

    @property
    def fingerprint(self) -> str:
        """Hash of everything that shapes the search's trials; the budget, the race and the confirm phase do not."""
        config = self.config.model_dump(
            mode="json", include={"objectives", "constraints", "sampler", "pruner", "search"}
        )
        arms = {
            arm.name: [dict(arm.settings), {k: p.model_dump(mode="json") for k, p in arm.space.items()}]
            for arm in self.searched
        }
        return content_hash([config, arms])


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read, override and validate a sweep file and its experiment.

    Raises:
        UserError: anything in it is wrong; nothing has been trained.
    """
    content = _override(read_yaml(path), overrides)
    try:
        config = SweepConfig.model_validate(content)
    except ValidationError as error:
        raise UserError(one_line(error, str(path), SweepConfig)) from error
    try:
        experiment = load_experiment(path.parent / config.experiment)
    except UserError as error:
        raise UserError(f"{path}: experiment: {error}") from error
    arms = _arms(config, experiment, path)
    family = _family(arms, path)
    sweep = Sweep(config, experiment, arms, _objectives(config, family, path), path)
    check_sweep(sweep)
    return sweep


def _override(content: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply dotted overrides: a field of the sweep file, or (any other key) a setting of every trial."""
    changed: dict[str, Any] = unshared(content)
    renames = False
    for key, value in parse_overrides(overrides):
        first = key.split(".")[0]
        renames = renames or first not in KEEPS_NAME
        if first == "name":
            renames = False
        parameter = _parameter_of(changed, key)
        if parameter is not None:
            tree, rest = parameter
            set_dotted(tree, rest, value, f"override {key}")
            continue
        if first in SweepConfig.model_fields:
            set_dotted(changed, key, value, f"override {key}")
            continue
        settings = changed.setdefault("settings", {})
        if not isinstance(settings, dict):
            raise UserError(f"override {key}: the sweep's settings are {settings!r}, not a mapping")
        settings[key] = value
    if renames and isinstance(changed.get("name"), str):
        changed["name"] += f"-{content_hash(json.loads(json.dumps(changed, default=str), parse_constant=str), 6)}"
    return changed


def _parameter_of(content: Mapping[str, Any], key: str) -> tuple[dict[str, Any], str] | None:
    """Where an override like `space.optim.lr.low` goes: the parameter has dots in its own name."""
    space_settings = content.get("space")
    if not isinstance(space_settings, dict):
        return None
    for name, parameter in space_settings.items():
        if key.startswith(f"space.{name}.") and isinstance(parameter, dict):
            return parameter, key.removeprefix(f"space.{name}.")
    return (space_settings, name) if (name := key.removeprefix("space.")) in space_settings and name != key else None


def _arms(config: SweepConfig, experiment: Experiment, path: Path) -> tuple[Arm, ...]:
    known = experiment.config.arms
    names = config.arms or tuple(known)
    for name in names:
        must_be_in(name, known, f"{path}: arms: no arm {name!r} in {experiment.path}")
    if len(set(names)) != len(names):
        raise UserError(f"{path}: arms: {list(names)} names an arm twice")
    for key, parameter in config.space.items():
        for name in parameter.arms or ():
            must_be_in(name, names, f"{path}: space.{key}.arms: no arm {name!r} in this sweep")
        if len(set(parameter.arms or ())) != len(parameter.arms or ()):
            raise UserError(f"{path}: space.{key}.arms: {list(parameter.arms or ())} names an arm twice")
    for key in config.settings:
        if key in ("seed", "seeds"):
            raise UserError(f"{path}: settings.{key}: seeds belong to search.seeds, race.seeds and confirm.seeds")
    arms = []
    for name in names:
        settings = merge(experiment.config.base, known[name])
        for key, value in config.settings.items():
            settings = unshared(settings)
            if key.startswith("adapter") and settings.get("adapter") is None:
                continue  # an arm without an adapter keeps none
            _set_merged(settings, key, value, f"{path}: settings.{key}")
        searched = {
            key: parameter
            for key, parameter in config.space.items()
            if (name in parameter.arms if parameter.arms is not None else settings.get("train") != "none")
        }
        arms.append(Arm(name, settings, searched))
    if not any(arm.space for arm in arms):
        raise UserError(f"{path}: space: no arm searches anything")
    check_table(config.table, names, f"{path}: table", config.confirm.rules)
    return tuple(arms)


def _set_merged(settings: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set a dotted key; a mapping is merged into what is there, as an arm's settings are into the base's."""
    below: Any = settings
    for part in key.split("."):
        below = below.get(part) if isinstance(below, Mapping) else None
    both = isinstance(below, Mapping) and isinstance(value, Mapping)
    set_dotted(settings, key, merge(below, value) if both else value, where)


def _family(arms: Sequence[Arm], path: Path) -> Literal["text", "speech"]:
    trial = resolve_trial({**arms[0].settings, "seed": 0}, f"{path}: settings, arm {arms[0].name}")
    recipe = load_recipe(trial.backbone.recipe)
    return "speech" if isinstance(recipe.encoder, SpeechEncoderSettings) else "text"


def _objectives(config: SweepConfig, family: Literal["text", "speech"], path: Path) -> tuple[Objective, ...]:
    choices = validation_metrics(family)
    used = [(f"objectives.{i}", item.metric) for i, item in enumerate(config.objectives)]
    used += [(f"constraints.{i}", item.metric) for i, item in enumerate(config.constraints)]
    for where, metric in used:
        if metric.startswith(("target_", "source_")) or metric in ("forgetting", "constrained_score"):
            raise UserError(
                f"{path}: {where}.metric: {metric!r} is a test metric, sealed until the confirm phase; "
                f"choices: {', '.join(choices)}"
            )
        must_be_in(metric, choices, f"{path}: {where}.metric: unknown metric {metric!r}")
    names = [item.metric for item in config.objectives]
    if len(set(names)) != len(names):
        raise UserError(f"{path}: objectives: {names} names a metric twice")
    objectives = []
    for number, item in enumerate(config.objectives):
        own: Literal["maximize", "minimize"] = "maximize" if choices[item.metric] == "higher" else "minimize"
        if item.direction not in (None, own):
            raise UserError(
                f"{path}: objectives.{number}.direction: {item.direction}, but {choices[item.metric]} "
                f"{item.metric} is better; choices: {own}"
            )
        objectives.append(Objective(metric=item.metric, direction=own))
    return tuple(objectives)


def plan_confirm(sweep: Sweep, rows: Mapping[str, tuple[Arm, Mapping[str, Value]]]) -> Experiment:
    """The confirm phase as an experiment: one row a winner, the fresh seeds for each."""
    settings = {}
    trials = []
    for row, (arm, values) in rows.items():
        tree: dict[str, Any] = unshared(dict(arm.settings))
        for key, value in values.items():
            set_dotted(tree, key, value, f"row {row}")
        settings[row] = tree
        trials += [PlannedTrial(row, seed, sweep.trial(arm, values, seed)) for seed in sweep.config.confirm.seeds]
    config = ExperimentConfig(
        name=sweep.name,
        description=sweep.config.description or sweep.experiment.config.description,
        arms=settings,
        seeds=sweep.config.confirm.seeds,
        table=sweep.config.table.model_copy(update={"baseline": _baseline_row(sweep, tuple(rows))}),
    )
    return Experiment(config, tuple(trials), sweep.path)


def _baseline_row(sweep: Sweep, rows: Sequence[str]) -> str | None:
    """The row that the others are compared with: the baseline arm's, or of several rules its first one."""
    baseline = sweep.config.table.baseline
    if baseline is None or baseline in rows:
        return baseline
    return next(row for row in rows if row.startswith(f"{baseline} ("))
