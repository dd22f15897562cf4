"""From an experiment file and the command line's overrides to validated trials, with one-line errors."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from harness.config import ExperimentConfig, TrialConfig
from harness.design_settings import Design
from harness.designs import design_arms, expand_design
from harness.errors import UserError
from harness.setting_trees import merge, set_dotted, unshared
from harness.settings import content_hash
from harness.table_checks import check_table
from harness.yaml_files import parse_yaml, read_yaml


@dataclass(frozen=True)
class PlannedTrial:
    """One cell entry of an experiment: an arm at a seed."""

    arm: str
    seed: int
    config: TrialConfig


@dataclass(frozen=True)
class Experiment:
    """A validated experiment: its settings and every trial, arms in file order, seeds inside.

    `notes` go under its table (how a sweep tuned the arms, say).
    """

    config: ExperimentConfig
    trials: tuple[PlannedTrial, ...]
    path: Path
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.config.name


def parse_overrides(overrides: Iterable[str]) -> list[tuple[str, Any]]:
    """Split `key=value` arguments; values are read as YAML (`3e-4`, `[0, 1]`, `null`, `{from: 2}`).

    Raises:
        UserError: an argument has no `=`, or an empty key.
    """
    pairs = []
    for argument in overrides:
        key, separator, text = argument.partition("=")
        if not separator or not key or "" in key.split("."):
            raise UserError(f"override {argument!r}: expected key=value, as in optim.lr=3e-4")
        pairs.append((key, parse_yaml(text, f"override {argument!r}")))
    return pairs


def apply_overrides(content: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply dotted overrides to a raw experiment.

    A key that starts with a field of the experiment (`seeds`, `arms`, `design`, `table` ...) addresses the file;
    any other key addresses every trial, above what the arms set (`optim.lr=3e-4`). A changed experiment gets a name
    of its own, so that its records and its table never mix with the published ones.
    """
    pairs = parse_overrides(overrides)
    unchanged = expand_design(content, "experiment")
    changed = unshared(content)
    for key, value in pairs:  # first: they decide which arms there are
        if key.split(".")[0] == "design":
            set_dotted(changed, key, value, f"override {key}")
    changed = expand_design(changed, "experiment")
    for key, value in pairs:
        if key.split(".")[0] == "design":
            continue
        if key.split(".")[0] in ExperimentConfig.model_fields:
            set_dotted(changed, key, value, f"override {key}")
            continue
        arms = changed.get("arms")
        if not isinstance(arms, dict):
            raise UserError(f"override {key}: the experiment has no arms to apply it to")
        set_dotted(changed, f"base.{key}", value, f"override {key}")
        for arm_settings in arms.values():
            _override_arm(arm_settings, key, value)
    renamed = any(item.partition("=")[0] == "name" for item in overrides)
    if not renamed and isinstance(changed.get("name"), str) and changed != unchanged:
        changed["name"] += f"-{_short_hash(changed)}"
    return changed


def _short_hash(content: dict[str, Any]) -> str:
    """Hash of a raw experiment, which may hold what the validation is yet to refuse (a NaN, a date)."""
    text = json.dumps(content, default=str, skipkeys=True)
    return content_hash(json.loads(text, parse_constant=str), 6)


def _override_arm(settings: Any, key: str, value: Any) -> None:
    """Make an override win over an arm that sets the same key; arms that switch the adapter off keep it off."""
    node = settings
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(node, dict) or not isinstance(node.get(parent), dict):
            return
        node = node[parent]
    if isinstance(node, dict) and (last in node or "_target_" in node):
        node[last] = value


def one_line(error: ValidationError, where: str, model: type[BaseModel]) -> str:
    """The first problem of a pydantic error in one line: place, value, cause, and the choices."""
    problem = error.errors()[0]
    keys, parent, allowed = _resolve_location(model, problem["loc"])
    start = f"{where}: {'.'.join(keys)}: " if keys else f"{where}: "
    message = problem["msg"].removeprefix("Value error, ")
    more = error.error_count() - 1
    tail = f" (and {more} more)" if more else ""
    if problem["type"] == "extra_forbidden":
        choices = field_names(parent)
        near = difflib.get_close_matches(keys[-1], choices, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return f"{start}unknown key {keys[-1]!r}; choices: {', '.join(choices)}.{hint}{tail}"
    if problem["type"] == "missing":
        return f"{start}missing{tail}"
    if problem["type"].startswith("union_tag_") and problem["ctx"]["discriminator"] == "'type'":
        types = [kind for member in allowed for kind in get_args(member.model_fields["type"].annotation)]
        tag = problem["ctx"].get("tag")
        near = difflib.get_close_matches(str(tag), types, n=1)
        hint = f". Did you mean {near[0]}?" if near else ""
        found = "missing" if tag is None else f"unknown type {tag!r}"
        return f"{where}: {'.'.join(keys)}.type: {found}; choices: {', '.join(types)}{hint}{tail}"
    if problem["type"] == "value_error":
        return f"{start}{message}{tail}"
    return f"{start}{message}, got {problem['input']!r}{tail}"


def field_names(model: type[BaseModel]) -> list[str]:
    """The keys of a settings class as they are written in a file (`from`, not `first`)."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _resolve_location(
    model: type[BaseModel], location: Sequence[int | str]
) -> tuple[list[str], type[BaseModel], list[Any]]:
    """The keys of a place as the user wrote them, the settings class that has the last one, and what is allowed there.

    Where one of several types is allowed (`encoder`, `layers`, a searched parameter), pydantic adds the name of the one
    that it tried to the location; that is no key.
    """
    keys: list[str] = []
    holder: type[BaseModel] = model
    allowed: list[Any] = [model]
    for part in location:
        if len(allowed) > 1:
            named = _named_class(allowed, str(part))
            allowed = [] if named is None else [named]
            continue
        keys.append(str(part))
        here = _named_class(allowed, None)
        if here is None:  # a list or a mapping: on to its items
            items = get_args(allowed[0]) if allowed and get_origin(allowed[0]) in (dict, list, tuple) else ()
            item = items[1:] if items and get_origin(allowed[0]) is dict else items
            allowed = _allowed_types(item[0]) if item else []
            continue
        holder = here
        field = next((f for name, f in here.model_fields.items() if part in (name, f.alias)), None)
        allowed = [] if field is None else _allowed_types(field.annotation)
    return keys, holder, allowed


def _allowed_types(annotation: Any) -> list[Any]:
    """The types that an annotation allows, None aside."""
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if get_origin(bare) not in (Union, UnionType):
        return [annotation]
    members = [member for member in get_args(bare) if member is not NoneType]
    return _allowed_types(members[0]) if len(members) == 1 else members


def _named_class(allowed: Sequence[Any], name: str | None) -> type[BaseModel] | None:
    """The settings class among some types that pydantic calls by `name` (any, for None): by tag, class or kind."""
    for member in allowed:
        bare, *marks = get_args(member) if get_origin(member) is Annotated else (member,)
        if not (isinstance(bare, type) and issubclass(bare, BaseModel)):
            continue
        tags = [mark.tag for mark in marks if isinstance(mark, Tag)]
        kinds = [f.annotation for f in bare.model_fields.values() if get_origin(f.annotation) is Literal]
        names = {bare.__name__, *tags, *(choice for kind in kinds for choice in get_args(kind))}
        if name is None or name in names:
            return bare
    return None


def resolve_trial(settings: Mapping[str, Any], where: str) -> TrialConfig:
    """Validate one trial.

    Raises:
        UserError: a key, type or value is wrong; one line.
    """
    try:
        return TrialConfig.model_validate(settings)
    except ValidationError as error:
        raise UserError(one_line(error, where, TrialConfig)) from error


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read, override and validate an experiment file, every arm and seed of it.

    Raises:
        UserError: anything in it is wrong; nothing has been trained.
    """
    content = apply_overrides(read_yaml(path), overrides)
    try:
        config = ExperimentConfig.model_validate(content)
    except ValidationError as error:
        raise UserError(one_line(error, str(path), ExperimentConfig)) from error
    check_table(config.table, list(config.arms), f"{path}: table")
    trials = []
    for arm, settings in config.arms.items():
        merged = merge(config.base, settings)
        for key in ("seed", "seeds"):
            if key in merged:
                raise UserError(f"{path}: arms.{arm}.{key}: seeds belong to the experiment, so that arms are paired")
        for seed in config.seeds:
            trial = resolve_trial({**merged, "seed": seed}, f"{path}: arms.{arm}")
            trials.append(PlannedTrial(arm, seed, trial))
    if config.design is not None:
        _check_design(config.design, trials, path)
    return Experiment(config, tuple(trials), path)


def _check_design(design: Design, trials: Sequence[PlannedTrial], path: Path) -> None:
    """Refuse a design with two arms that are the same trials: a component or a level that changes nothing."""
    names = {arm.name for arm in design_arms(design)}
    seen: dict[str, str] = {}
    for trial in trials:
        if trial.arm not in names:
            continue
        known = seen.setdefault(trial.config.trial_id, trial.arm)
        if known != trial.arm:
            raise UserError(f"{path}: design: the arms {known!r} and {trial.arm!r} are the same trials")


def select_trials(
    experiment: Experiment, arms: Sequence[str] = (), seeds: Sequence[int] = ()
) -> tuple[PlannedTrial, ...]:
    """The trials of some arms or seeds (all of them by default).

    Raises:
        UserError: an arm or a seed is not in the experiment.
    """
    for arm in arms:
        if arm not in experiment.config.arms:
            raise UserError(f"no arm {arm!r} in {experiment.path}; choices: {', '.join(experiment.config.arms)}")
    for seed in seeds:
        if seed not in experiment.config.seeds:
            choices = ", ".join(map(str, experiment.config.seeds))
            raise UserError(f"no seed {seed} in {experiment.path}; choices: {choices}")
    return tuple(
        trial for trial in experiment.trials if (not arms or trial.arm in arms) and (not seeds or trial.seed in seeds)
    )
