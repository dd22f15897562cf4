"""From a sweep file to a validated `Sweep`: every field checked against the experiment before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.backbones.recipe import load_recipe
from harness.config.adapters import ADAPTER_KEYS
from harness.config.depends import ArmTrials
from harness.config.design import Design, methods_of
from harness.config.experiment import (
    Experiment,
    PlannedTrial,
    changes_note,
    check_known,
    give_own_name,
    load_experiment,
    merged_arms,
    override_stages,
    parse_overrides,
)
from harness.config.kinds import refuse_other_kind
from harness.config.messages import validated
from harness.config.places import find_path, place_paths
from harness.config.rows import clash_of, possible_rows
from harness.config.shipped import shipped_files
from harness.config.sweep import Goal, SweepConfig
from harness.config.table import check_table
from harness.config.trees import get_dotted, merge, set_dotted, show, unshared
from harness.config.yaml import read_yaml
from harness.errors import UserError, must_be_in
from harness.metrics import validation_metrics
from harness.records.search import Objective
from harness.search import space
from harness.search.checks import check_sweep
from harness.search.declaration import Arm, Sweep
from harness.tables.planned import check_sweep_table, shows_its_search
from harness.tasks.registry import task_of_recipe
from harness.tasks.task import WholeTask

KEEPS_NAME = ("budget", "storage", "name", "launcher")  # overrides of these go on with the same study


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read, override and validate a sweep file and its experiment.

    Raises:
        UserError: anything in it is wrong; nothing has been trained.
    """
    return make_sweep(read_yaml(path), path, overrides)


def make_sweep(content: dict[str, Any], path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Override and validate a sweep's settings; `path` is named in errors, and its folder has the experiment's file.

    Raises:
        UserError: as `load_sweep`.
    """
    refuse_other_kind(content, str(path), "sweep")
    given = content
    content = _override(place_paths(content, path.parent), overrides)
    config = validated(SweepConfig, content, str(path))
    check_storage(config.storage, path)
    try:
        experiment = load_experiment(_experiment_file(config.experiment, path.parent))
    except UserError as error:
        raise UserError(f"{path}: experiment: {error}") from error
    arms = _arms(config, experiment, path)
    told = {} if config.description else config.settings  # else the description is the experiment's
    changed = [f"{key}={show(value)}" for key, value in told.items()]
    changed += [text for text in overrides if content != given and text.partition("=")[0] not in told]
    # A storage may hold a password; how large the budget was is said by another note.
    notes = changes_note(changed, ("table", *KEEPS_NAME))
    made = _made(config, experiment, path)
    sweep = Sweep(config, experiment, arms, _objectives(config, _task(arms, made, path), path), path, made, notes)
    check_sweep(sweep)
    _check_table(sweep)
    return sweep


def _experiment_file(name: str, folder: Path) -> Path:
    """The file that a sweep means: a path, or the name of an experiment that comes with harness."""
    if not (folder / name).exists() and name in (shipped := shipped_files("experiment")):
        return shipped[name]
    return find_path(name, folder)


def _check_table(sweep: Sweep) -> None:
    """Refuse a table that could not be made of the records, with one trial for each arm."""
    config, design = sweep.config, sweep.experiment.config.design
    arms = sweep.searched if shows_its_search(config.table) else sweep.arms
    trials, seed = [], config.confirm.seeds[0]
    for arm in arms:
        values = {key: space.extremes(parameter)[0] for key, parameter in arm.space.items()}
        trials.append(PlannedTrial(arm.name, seed, sweep.trial(arm, values, seed)))
    rows = possible_rows([arm.name for arm in arms], [arm.name for arm in sweep.searched], config.confirm.rules)
    check_sweep_table(config.table, sweep.name, trials, rows, design, config.space, sweep.path)


def check_storage(storage: str | None, path: Path) -> None:
    """Refuse a storage that is none, before anything is read from it or written down about it.

    Raises:
        UserError: it is not a URL, a SQLite file or a variable that holds one.
    """
    if storage is None:
        return
    from harness.search.storage_url import storage_url  # loads SQLAlchemy

    try:
        storage_url(storage)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _override(content: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply dotted overrides: a field of the sweep file, or (any other key) a setting of every trial."""
    changed: dict[str, Any] = unshared(content)
    pairs = parse_overrides(overrides)
    for key, value in pairs:
        first = key.split(".")[0]
        if _override_parameter(changed, key, value):
            continue
        if first in SweepConfig.model_fields:
            set_dotted(changed, key, value, f"override {key}")
            continue
        if first != "seeds":  # told below where they belong
            check_known(key, SweepConfig)
        settings = changed.setdefault("settings", {})
        if not isinstance(settings, dict):
            raise UserError(f"override {key}: the sweep's settings are {settings!r}, not a mapping")
        settings[key] = value
    give_own_name(changed, content, pairs, KEEPS_NAME)
    return changed


def _override_parameter(content: Mapping[str, Any], key: str, value: Any) -> bool:
    """Set `space.optim.lr.low`, or with `space.optim.lr` a whole parameter; False where the key is neither.

    Raises:
        UserError: no parameter has the name, and the value is none that could be a new one.
    """
    parameters, path = content.get("space"), key.removeprefix("space.")
    if not isinstance(parameters, dict) or path == key:
        return False
    for name, parameter in parameters.items():
        if path.startswith(f"{name}.") and isinstance(parameter, dict):
            set_dotted(parameter, path.removeprefix(f"{name}."), value, f"override {key}")
            return True
    if path not in parameters and not isinstance(value, dict):
        name = path.rpartition(".")[0] or path
        must_be_in(name, parameters, f"override {key}: space has no {name!r}")
    parameters[path] = value
    return True


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
        settings = _with_settings(settings, config.settings, path)
        searched = {
            key: parameter
            for key, parameter in config.space.items()
            if (name in parameter.arms if parameter.arms is not None else settings.get("train") != "none")
        }
        arms.append(Arm(name, settings, searched))
    for key in config.settings:
        if (first := key.split(".")[0]) in ADAPTER_KEYS and all(arm.settings.get(first) is None for arm in arms):
            raise UserError(f"{path}: settings.{key}: no arm has an adapter, so it would change nothing")
        if all(key in arm.space for arm in arms if arm.settings.get("train") != "none"):
            raise UserError(f"{path}: settings.{key}: every arm that trains searches it, so it would change nothing")
    if not any(arm.space for arm in arms):
        raise UserError(f"{path}: space: no arm searches anything")
    _check_rows(config, arms, experiment.config.design, path)
    return tuple(arms)


def _with_settings(settings: dict[str, Any], above: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """An arm's settings with those of the sweep above them, in its stages as well."""
    for key, value in above.items():
        settings = unshared(settings)
        if (first := key.split(".")[0]) in ADAPTER_KEYS and settings.get(first) is None:
            continue  # an arm without an adapter keeps none
        _set_merged(settings, key, value, f"{path}: settings.{key}")
        override_stages(settings, key, value)
    return settings


def _made(config: SweepConfig, experiment: Experiment, path: Path) -> ArmTrials:
    """What makes the trials of a sweep: its arms may take weights from any arm and part of the experiment."""
    merged = merged_arms(experiment.config, experiment.path)
    settings = {name: _with_settings(found, config.settings, path) for name, found in merged.items()}
    return ArmTrials(settings, str(experiment.path), experiment.config.parts)


def _check_rows(config: SweepConfig, arms: Sequence[Arm], design: Design | None, path: Path) -> None:
    """Check that the rows that the table names exist, and that no arm has the name of another arm's winner."""
    names, searched = [arm.name for arm in arms], [arm.name for arm in arms if arm.space]
    clash = clash_of(names, searched, config.confirm.rules)
    if clash is not None:
        raise UserError(f"{path}: arms: {clash[0]!r} may become the name of a winner of {clash[1]!r}, too; rename it")
    methods = methods_of(design)
    known = possible_rows([*names, *methods], [*searched, *methods], config.confirm.rules)
    check_table(config.table, known, f"{path}: table")


def _set_merged(settings: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set a dotted key; a mapping is merged into what is there, as an arm's settings are into the base's."""
    below = get_dotted(settings, key)
    both = isinstance(below, Mapping) and isinstance(value, Mapping)
    set_dotted(settings, key, merge(below, value) if both else value, where)


def _task(arms: Sequence[Arm], made: ArmTrials, path: Path) -> type[WholeTask]:
    trial = made.trial(arms[0].name, 0, arms[0].settings, where=f"{path}: settings, arm {arms[0].name}")
    return task_of_recipe(load_recipe(trial.backbone.recipe))


def _objectives(config: SweepConfig, task: type[WholeTask], path: Path) -> tuple[Objective, ...]:
    choices = validation_metrics(task.metrics)
    used = [(f"objectives.{i}", item.metric) for i, item in enumerate(config.objectives)]
    used += [(f"constraints.{i}", item.metric) for i, item in enumerate(config.constraints)]
    for where, metric in used:
        if metric.startswith(("target_", "source_")) or metric in ("forgetting", "constrained_score"):
            raise UserError(
                f"{path}: {where}.metric: {metric!r} is a test metric, which is sealed (not computed) in a search; "
                f"choices: {', '.join(choices)}"
            )
        must_be_in(metric, choices, f"{path}: {where}.metric: unknown metric {metric!r}")
    names = [item.metric for item in config.objectives]
    if len(set(names)) != len(names):
        raise UserError(f"{path}: objectives: {names} names a metric twice")
    objectives = []
    for number, item in enumerate(config.objectives):
        own: Goal = "maximize" if choices[item.metric] == "higher" else "minimize"
        if item.direction not in (None, own):
            raise UserError(
                f"{path}: objectives.{number}.direction: {item.direction}, but {choices[item.metric]} "
                f"{item.metric} is better; choices: {own}"
            )
        objectives.append(Objective(metric=item.metric, direction=own))
    return tuple(objectives)
