"""Arms that take weights from other arms, and arms that train in stages: trials that name other trials by their ids.

    adapters: {x: {from: {arm: A}}}      the trial of A, same seed  <- from --  the arm's trial
    stages: [{train: head}, {...}]       the trial of stage 1  <- start --  that of stage 2, the arm's row

The id of a trial is the hash of its config, those ids included: it changes with everything that it depends on. Arms
that have a stage or a source in common name the same trial, which is trained once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from harness.config.adapters import ADAPTER_KEYS, STRATEGY, AdapterSource, StartSettings, with_digests
from harness.config.messages import validated
from harness.config.trees import merge, set_dotted, unshared
from harness.config.trial import TrialConfig
from harness.errors import UserError, must_be_in

STAGES = "stages"


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of an experiment: an arm at a seed."""

    arm: str
    seed: int
    config: TrialConfig


def resolve_trial(settings: Mapping[str, Any], where: str) -> TrialConfig:
    """Validate one trial.

    Raises:
        UserError: a key, type or value is wrong, or a file with weights is not there; one line.
    """
    return validated(TrialConfig, with_digests(settings, where), where)


class ArmTrials:
    """Make the trials of arms, and with them the trials that they depend on.

    Args:
        settings: arm or part -> all its settings, those of the base included.
        where: the file, for errors.
        part_names: those that are no rows.

    Attributes:
        parts: trial id -> a trial that gives weights to others, each after those that it depends on itself.
        asked: the arms and parts that others name.
    """

    def __init__(self, settings: Mapping[str, Mapping[str, Any]], where: str, part_names: Collection[str] = ()) -> None:
        self.settings, self.where, self.part_names = settings, where, part_names
        self.asked: set[str] = set()
        self.parts: dict[str, PlannedTrial] = {}
        self._known: dict[tuple[str, int], TrialConfig] = {}

    def trial(
        self,
        name: str,
        seed: int,
        settings: Mapping[str, Any] | None = None,
        values: Mapping[str, Any] | None = None,
        where: str | None = None,
    ) -> TrialConfig:
        """The trial of an arm.

        Args:
            name: of the arm.
            seed: of the trial, and of those that it depends on.
            settings: of the arm, where they are not those that others who depend on it see.
            values: dotted settings above these. Of an arm in stages they are those of its last stage alone.
            where: the arm, for errors.

        Raises:
            UserError: a setting is wrong, an arm that it names is not there, or arms depend on each other in a circle.
        """
        found = self.settings[name] if settings is None else settings
        return self._resolve(name, found, seed, values or {}, where or f"{self.where}: arms.{name}", (name,))

    def needs_of(self, config: TrialConfig) -> tuple[PlannedTrial, ...]:
        """The trials that one depends on, directly or not, each after those that it depends on itself."""
        found: dict[str, PlannedTrial] = {}

        def add(of: TrialConfig) -> None:
            for trial_id in of.needs:
                if trial_id in self.parts:  # else it is named by its id in the file
                    add(self.parts[trial_id].config)
                    found.setdefault(trial_id, self.parts[trial_id])

        add(config)
        return tuple(found.values())

    def _resolve(
        self,
        name: str,
        settings: Mapping[str, Any],
        seed: int,
        values: Mapping[str, Any],
        where: str,
        trail: tuple[str, ...],
    ) -> TrialConfig:
        stages = _stages_of(settings, where)
        shared = {key: value for key, value in settings.items() if key != STAGES}
        before: TrialConfig | None = None
        for number, stage in enumerate(stages, 1):
            place = where if len(stages) == 1 else f"{where}.{STAGES}.{number - 1}"
            merged: dict[str, Any] = unshared(merge(shared, stage))
            if number == len(stages):
                for key, value in values.items():
                    set_dotted(merged, key, value, f"{place}: {key}")
            if STAGES in settings and merged.get("train") not in ("adapters", "adapters_and_head"):
                merged |= dict.fromkeys(ADAPTER_KEYS)  # those of the arm are for its other stages
            config = self._resolve_one({**merged, "seed": seed}, before, place, trail)
            if number < len(stages):
                _check_trains(config, place)
                self.parts.setdefault(config.trial_id, PlannedTrial(f"{name}, stage {number}", seed, config))
            before = config
        assert before is not None
        return before

    def _resolve_one(
        self, settings: dict[str, Any], before: TrialConfig | None, where: str, trail: tuple[str, ...]
    ) -> TrialConfig:
        seed = settings["seed"]
        start, adapters = settings.get("start"), settings.get("adapters")
        if before is not None:
            if start is not None:
                raise UserError(f"{where}: start: a later stage starts from the one before it; leave it out")
            settings["start"] = {"trial": before.trial_id}
        elif isinstance(start, Mapping) and "arm" in start:
            named = validated(StartSettings, start, f"{where}: start")
            before = self._dependency(str(named.arm), seed, f"{where}: start.arm", trail)
            settings["start"] = {"trial": before.trial_id}
        givers: dict[str, TrialConfig] = {}
        for name, member in adapters.items() if isinstance(adapters, Mapping) else ():
            source = member.get("from") if isinstance(member, Mapping) else None
            if isinstance(source, Mapping) and "arm" in source:
                place = f"{where}: adapters.{name}.from"
                named_source = validated(AdapterSource, source, place)
                giver = self._dependency(str(named_source.arm), seed, f"{place}.arm", trail)
                settings["adapters"] = settings["adapters"] | {name: _taken(name, member, named_source, giver, place)}
                givers[f"{place}.arm: {named_source.arm}"] = giver
        config = resolve_trial(settings, where)
        for place, giver in givers.items():
            if giver.backbone != config.backbone:
                raise UserError(
                    f"{place}: it has another backbone, or adapters in other places (backbone: must be equal)"
                )
        if before is not None:
            _check_goes_on(config, before, where)
        if before is not None or config.start is None:
            _check_frozen(config, before, where)
        return config

    def _dependency(self, name: str, seed: int, place: str, trail: tuple[str, ...]) -> TrialConfig:
        must_be_in(name, self.settings, f"{place}: no arm or part {name!r}")
        self.asked.add(name)
        if name in trail:
            circle = " -> ".join((*trail[trail.index(name) :], name))
            raise UserError(f"{place}: {circle}: they take weights from each other in a circle")
        if (name, seed) not in self._known:
            where = f"{self.where}: {'parts' if name in self.part_names else 'arms'}.{name}"
            config = self._resolve(name, self.settings[name], seed, {}, where, (*trail, name))
            _check_trains(config, f"{place}: {name}")
            self._known[name, seed] = config
            self.parts.setdefault(config.trial_id, PlannedTrial(name, seed, config))
        return self._known[name, seed]


def _stages_of(settings: Mapping[str, Any], where: str) -> Sequence[Mapping[str, Any]]:
    """The stages of an arm; a single one that adds nothing where it names none.

    Raises:
        UserError: they are no list of settings.
    """
    choices = [*TrialConfig.model_fields, STAGES]
    for key in settings.keys() - set(choices):
        if get_close_matches(key, choices, n=1) == [STAGES]:  # a trial, which is asked about other keys, has no stages
            must_be_in(key, choices, f"{where}: {key}: unknown key {key!r}")
    stages = settings.get(STAGES)
    if stages is None:
        return ({},)
    if not isinstance(stages, list) or not stages or not all(isinstance(stage, Mapping) for stage in stages):
        raise UserError(f"{where}.{STAGES}: expected a list of settings, one mapping a stage, got {stages!r}")
    for number, stage in enumerate(stages):
        for key in ("seed", "seeds", STAGES):
            if key in stage:
                raise UserError(f"{where}.{STAGES}.{number}.{key}: a stage has no {key} of its own")
    return stages


def _check_trains(config: TrialConfig, place: str) -> None:
    if config.train == "none":
        raise UserError(f"{place}: train: none trains nothing, so there are no weights to take from it")
    for member in config.members:
        if member.called.partition(".")[0] == "peft":
            raise UserError(f"{place}: its adapter {member.called} is PEFT's, whose weights no other trial takes")


def _check_goes_on(config: TrialConfig, before: TrialConfig, where: str) -> None:
    """Refuse a start from a trial of another backbone, or one whose adapters would be lost."""
    if config.backbone.recipe != before.backbone.recipe:
        raise UserError(
            f"{where}: backbone.recipe: {config.backbone.recipe}, but it starts from {before.backbone.recipe}"
        )
    had, has = ([member.name for member in one.members] for one in (before, config))
    lost = [name for name in had if name not in has]
    if lost:
        raise UserError(
            f"{where}: train: {config.train}: the adapters that it starts with ({', '.join(lost)}) would be left out; "
            "keep them (trainable: false freezes them), or train in another order"
        )
    if had and config.backbone != before.backbone:
        raise UserError(f"{where}: backbone: the adapters that it starts with are in other places; they must be equal")


def _check_frozen(config: TrialConfig, before: TrialConfig | None, where: str) -> None:
    """Refuse a frozen adapter that takes its weights from nowhere: it would stay as it was drawn."""
    had = {member.name for member in before.members} if before is not None else set()
    for member in config.members:
        if not member.trainable and member.source is None and member.name not in had:
            raise UserError(
                f"{where}: {member.place}: trainable is false (a fusion sets that of what it merges), but it takes its "
                "weights from nowhere, so it would stay as it was drawn; give it `from`, or trainable: true"
            )


def _taken(
    name: str, member: Mapping[str, Any], source: AdapterSource, giver: TrialConfig, place: str
) -> dict[str, Any]:
    """An adapter's settings with the class and options of the one whose weights it takes, and the trial's id."""
    more = sorted(member.keys() - {"from", "trainable", "in_chain", STRATEGY})
    if more:
        raise UserError(f"{place}: {', '.join(more)}: class and options come with the weights; leave them out")
    there = {one.name: one for one in giver.members}
    asked = source.adapter or (next(iter(there)) if len(there) == 1 else name)
    must_be_in(asked, there, f"{place}.adapter: arm {source.arm} has no adapter {asked!r}")
    given = there[asked]
    if given.source is not None and given.source.file is not None:
        if given.trainable:
            raise UserError(
                f"{place}.arm: adapter {asked} of {source.arm} was trained on from a file, which alone tells its "
                "class; take the adapter from the file, or give it there with _target_"
            )
        return {**member, "from": given.source.model_dump(mode="json", by_alias=True)}
    return {**given.settings, **member, "from": {"trial": giver.trial_id, "adapter": asked}}
