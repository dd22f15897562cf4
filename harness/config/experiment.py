"""From an experiment file and the command line's overrides to validated trials, with one-line errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from harness.config.base import Settings, content_hash
from harness.config.depends import STAGES, ArmTrials
from harness.config.depends import PlannedTrial as PlannedTrial
from harness.config.depends import resolve_trial as resolve_trial
from harness.config.design import Design, design_arms, expand_design, methods_of
from harness.config.kinds import refuse_other_kind
from harness.config.messages import SECRET, shortened, validated
from harness.config.notes import Note
from harness.config.places import place_paths
from harness.config.rows import RowId
from harness.config.table import check_table
from harness.config.trees import MISSING, check_tree, get_dotted, merge, set_dotted, unshared
from harness.config.trial import ExperimentConfig, TrialConfig
from harness.config.yaml import parse_yaml, read_yaml
from harness.errors import UserError, hide_passwords, must_be_in


@dataclass(frozen=True)
class Experiment:
    """A validated experiment: its settings and every trial, arms in file order, seeds inside.

    `notes` go under its table (for example, how a sweep tuned the arms). Where the arms are winners of a sweep, `rows`
    says which arm each comes from, and which rules chose it. `parts` are trials that are no rows and give weights to
    others, each after those that it takes weights from. `budget` is that of the sweep's search: `trials` or `seconds`.
    """

    config: ExperimentConfig
    trials: tuple[PlannedTrial, ...]
    path: Path
    notes: tuple[Note, ...] = ()
    rows: tuple[RowId, ...] = ()
    parts: tuple[PlannedTrial, ...] = ()
    budget: Mapping[str, float] | None = None

    @property
    def name(self) -> str:
        return self.config.name


def parse_overrides(overrides: Iterable[str]) -> list[tuple[str, Any]]:
    """Split `key=value` arguments; values are read as YAML (`3e-4`, `[0, 1]`, `null`, `{from: 2}`).

    Raises:
        UserError: an argument has no `=`, or an empty key.
    """
    pairs: dict[str, Any] = {}
    for argument in overrides:
        key, separator, text = argument.partition("=")
        if not separator or not key or "" in key.split("."):
            raise UserError(f"override {hide_passwords(repr(argument))}: expected key=value, as in optim.lr=3e-4")
        shown = key if key.partition(".")[0] == SECRET else shortened(hide_passwords(argument))
        if key in pairs:
            raise UserError(f"override {key}: the setting is given twice")
        value = parse_yaml(text, f"override {shown}")
        check_tree({key: value}, f"override {shown}")
        pairs[key] = place_paths(value, Path(), f".{key}")  # a path on the command line is meant from here
    return list(pairs.items())


def changes_note(overrides: Iterable[str], untold: Sequence[str] = ()) -> tuple[Note, ...]:
    """The note of what was changed against the file that gives the title and the description ("600 examples").

    Args:
        overrides: `key=value` arguments.
        untold: fields of the file that another note or the table itself shows, or that concern no number.
    """
    told = [text for text in overrides if text.partition("=")[0].split(".")[0] not in ("name", "description", *untold)]
    if not told:
        return ()
    return (Note("method", f"changed settings, so the title may not fit: {', '.join(told)}"),)


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
        arms = changed.get("arms")
        if key.startswith("arms.") and isinstance(arms, dict):
            _override_named_arm(arms, key, value)
            continue
        if key.split(".")[0] in ExperimentConfig.model_fields:
            set_dotted(changed, key, value, f"override {key}")
            continue
        check_known(key, ExperimentConfig)
        if not isinstance(arms, dict):
            raise UserError(f"override {key}: the experiment has no arms to apply it to")
        set_dotted(changed, f"base.{key}", value, f"override {key}")
        parts = changed.get("parts")
        for arm_settings in (*arms.values(), *(parts.values() if isinstance(parts, dict) else ())):
            _override_arm(arm_settings, key, value)
            override_stages(arm_settings, key, value)
    _check_touched(changed, pairs)
    give_own_name(changed, unchanged, pairs)
    return changed


def give_own_name(
    changed: dict[str, Any], unchanged: Mapping[str, Any], pairs: Iterable[tuple[str, Any]], keeps: Sequence[str] = ()
) -> None:
    """Add a hash of changed settings to a file's name, unless an override names it or nothing of weight has changed.

    Args:
        changed: a raw experiment or sweep with its overrides; `unchanged`: without them.
        keeps: fields that an override may change under the same name, as always `launcher`.
    """
    if any(key == "name" for key, _ in pairs) or not isinstance(changed.get("name"), str):
        return
    ours = {key: value for key, value in changed.items() if key not in ("launcher", *keeps)}
    files = {key: value for key, value in unchanged.items() if key not in ("launcher", *keeps)}
    if ours != files:
        # With the file's own values of what keeps the name, so that overrides of these do not count.
        kept = {key: unchanged[key] for key in keeps if key in unchanged and key != "launcher"}
        changed["name"] += f"-{_short_hash({**ours, **kept})}"


def check_known(key: str, file: type[Settings]) -> None:
    """Refuse an override of what is neither a field of the file nor a setting of a trial.

    Raises:
        UserError: the first part of the dotted key is unknown; the choices are named.
    """
    first = key.split(".")[0]
    must_be_in(first, [*file.model_fields, *TrialConfig.model_fields], f"override {key}: unknown key {first!r}")


def _override_named_arm(arms: dict[str, Any], key: str, value: Any) -> None:
    """Set `arms.NAME.KEY`, or with `arms.NAME` a whole arm; both may make a new one. A name may have dots in it.

    Raises:
        UserError: there is no such arm, but one of nearly the same name; or the arm is no mapping.
    """
    path = key.removeprefix("arms.")
    name = max((name for name in arms if path == name or path.startswith(f"{name}.")), key=len, default=None)
    if path == name or "." not in path:
        arms[path] = value
        return
    if name is None:
        name = path.split(".")[0]
        if get_close_matches(name, arms, n=1, cutoff=0.75):  # a new arm is fine, a mistyped one is not
            must_be_in(name, arms, f"override {key}: no arm {name!r} (a new one is written arms.{name}={{...}})")
    if arms.get(name) is None:
        arms[name] = {}
    settings = arms[name]
    if not isinstance(settings, dict):
        raise UserError(f"override {key}: arms.{name} is {settings!r}, not a mapping of settings")
    set_dotted(settings, path.removeprefix(f"{name}."), value, f"override {key}")


def _check_touched(content: Mapping[str, Any], pairs: Iterable[tuple[str, Any]]) -> None:
    """Refuse an override of all trials that none of them has afterwards.

    Raises:
        UserError: no arm has the setting (the adapter's, where none has an adapter), or all arms set it themselves.
    """
    base, arms = content.get("base") or {}, content.get("arms")
    if (
        not isinstance(base, Mapping)
        or not isinstance(arms, dict)
        or not all(isinstance(a, dict) for a in arms.values())
    ):
        return  # the validation of the file says what is wrong
    trials = [merge(base, arm) for arm in arms.values()]
    for key, value in pairs:
        setting = key.removeprefix("base.")
        if key.split(".")[0] in ExperimentConfig.model_fields and setting == key:
            continue
        found = [get_dotted(trial, setting) for trial in trials]
        if setting != key and value not in found:
            raise UserError(f"override {key}: every arm sets {setting} itself, so it would change nothing")
        if trials and all(item is MISSING for item in found):
            raise UserError(f"override {key}: no arm has {setting.rpartition('.')[0]}, so it would change nothing")


def _short_hash(content: dict[str, Any]) -> str:
    """Hash of a raw experiment. It is not validated yet, so it may hold a NaN or a date."""
    text = json.dumps(content, default=str, skipkeys=True)
    return content_hash(json.loads(text, parse_constant=str), 6)


def _override_arm(settings: Any, key: str, value: Any) -> None:
    """Let an override win over an arm that sets the same key; an arm that switches the adapter off keeps it off."""
    node = settings
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(node, dict) or not isinstance(node.get(parent), dict):
            return
        node = node[parent]
    if isinstance(node, dict) and (last in node or "_target_" in node):
        node[last] = value


def override_stages(settings: Any, key: str, value: Any) -> None:
    """Let an override win over the stages of an arm that set the same key, as over the arm itself."""
    stages = settings.get(STAGES) if isinstance(settings, dict) else None
    for stage in stages if isinstance(stages, list) else ():
        _override_arm(stage, key, value)


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read, override and validate an experiment file, every arm and seed of it.

    Raises:
        UserError: anything in it is wrong; nothing has been trained.
    """
    return make_experiment(read_yaml(path), path, overrides)


def make_experiment(content: dict[str, Any], path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Override and validate an experiment's settings, every arm and seed of them; `path` is named in errors.

    Raises:
        UserError: as `load_experiment`.
    """
    refuse_other_kind(content, str(path), "experiment")
    given = content
    content = place_paths(apply_overrides(place_paths(content, path.parent), overrides), path.parent)
    config = validated(ExperimentConfig, content, str(path))
    names = (*config.arms, *methods_of(config.design))
    check_table(config.table, [RowId(name) for name in names], f"{path}: table")
    made = ArmTrials(merged_arms(config, path), str(path), config.parts)
    trials = [PlannedTrial(arm, seed, made.trial(arm, seed)) for arm in config.arms for seed in config.seeds]
    if unused := config.parts.keys() - made.asked:
        raise UserError(
            f"{path}: parts.{sorted(unused)[0]}: no arm takes weights from it, so it would never be trained"
        )
    if config.design is not None:
        _check_design(config.design, trials, path)
    notes = changes_note(overrides, ("table", "launcher")) if content != expand_design(given, "experiment") else ()
    notes = (*notes, *cost_notes(trials, methods_of(config.design)))
    return Experiment(config, tuple(trials), path, notes, parts=parts_of(made, trials))


def merged_arms(config: ExperimentConfig, path: Path) -> dict[str, dict[str, Any]]:
    """Arm or part -> its settings above those of the base.

    Raises:
        UserError: a name is that of an arm and of a part, or one has seeds of its own.
    """
    merged = {}
    for kind, arms in (("arms", config.arms), ("parts", config.parts)):
        for arm, settings in arms.items():
            if arm in merged:
                raise UserError(f"{path}: parts.{arm}: there is an arm of that name; an arm may give weights as it is")
            merged[arm] = merge(config.base, settings)
            for key in ("seed", "seeds"):
                if key in merged[arm]:
                    raise UserError(
                        f"{path}: {kind}.{arm}.{key}: all arms share the experiment's seeds, so set them there"
                    )
    return merged


def parts_of(made: ArmTrials, trials: Sequence[PlannedTrial]) -> tuple[PlannedTrial, ...]:
    """The trials that are no rows and that some trials depend on, each after those that it depends on itself."""
    rows = {trial.config.trial_id for trial in trials}
    needed = {part.config.trial_id for trial in trials for part in made.needs_of(trial.config)}
    return tuple(part for trial_id, part in made.parts.items() if trial_id in needed - rows)


NAMED_ARMS = 8  # a note of more arms says how many, and not each one's name


def cost_notes(trials: Sequence[PlannedTrial], methods: Sequence[str] = ()) -> tuple[Note, ...]:
    """What the table must say of rows whose training is not all that they cost.

    Args:
        methods: names that stand for arms which are repeated, called by their values: `NAME, VALUE, VALUE`.
    """
    named = (trial.arm for trial in trials if trial.config.needs)
    arms = list(dict.fromkeys(next((m for m in methods if arm.startswith(f"{m}, ")), arm) for arm in named))
    if not arms:
        return ()
    text = "time, memory and trained weights are those of the last training alone: others gave it weights before"
    told = ", ".join(arms) if len(arms) <= NAMED_ARMS else f"the {len(arms)} arms that take weights from others"
    return (Note("method", f"{told}: {text}"),)


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
