"""A sweep: its arms, what each of them searches, its trials; and the experiment that confirms its winners."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config.base import content_hash
from harness.config.depends import ArmTrials, PlannedTrial
from harness.config.design import ForEach
from harness.config.experiment import Experiment, cost_notes, parts_of
from harness.config.notes import Note
from harness.config.places import place_paths
from harness.config.rows import RowId
from harness.config.sweep import Parameter, SweepConfig
from harness.config.trees import set_dotted, unshared
from harness.config.trial import CONFIG_VERSION, ExperimentConfig, TrialConfig
from harness.errors import UserError
from harness.records.search import Axis, Objective, Value
from harness.search import space
from harness.search.storage_url import shown_storage


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
    """A validated sweep; `notes` go under its table, before those of how the arms were tuned.

    `made` makes the trials of its arms, and those that these take weights from: an arm that others name gives them what
    its own settings train, not what a search finds.
    """

    config: SweepConfig
    experiment: Experiment
    arms: tuple[Arm, ...]
    objectives: tuple[Objective, ...]
    path: Path
    made: ArmTrials
    notes: tuple[Note, ...] = ()
    _givers: dict[int, frozenset[str]] = field(default_factory=dict, init=False, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def launcher(self) -> str | dict[str, Any] | None:
        """Where its trials run: as its file says, or else that of its experiment."""
        return self.config.launcher or self.experiment.config.launcher

    @property
    def grid(self) -> bool:
        """Whether the sampler goes through a grid."""
        return self.config.sampler.name == "grid"

    @property
    def searched(self) -> tuple[Arm, ...]:
        """The arms that are tuned."""
        return tuple(arm for arm in self.arms if arm.space)

    def trial(self, arm: Arm, values: Mapping[str, Value], seed: int) -> TrialConfig:
        """The trial of an arm with some searched values; in an arm with stages they are those of the last one.

        Raises:
            UserError: the values do not fit the arm.
        """
        placed = {key: place_paths(value, self.path.parent, f".{key}") for key, value in values.items()}
        return self.made.trial(arm.name, seed, arm.settings, placed, f"{self.path}: arm {arm.name}")

    def needs_of(self, config: TrialConfig) -> tuple[PlannedTrial, ...]:
        """The trials that one takes weights from, each after those that it takes weights from itself."""
        return self.made.needs_of(config)

    def givers(self, seed: int) -> frozenset[str]:
        """The ids of the trials that the arms take weights from at a seed; no searched value changes them."""
        if seed not in self._givers:
            needed = (part for arm in self.arms for part in self.needs_of(self.trial(arm, {}, seed)))
            self._givers[seed] = frozenset(part.config.trial_id for part in needed)
        return self._givers[seed]

    @property
    def fingerprint(self) -> str:
        """Hash of everything that shapes the search's trials; the budget, the race and the confirm phase do not."""
        return content_hash([*self._shape, CONFIG_VERSION])

    @property
    def old_fingerprint(self) -> str:
        """The fingerprint of a search of these settings that was begun under version 1 of what settings mean."""
        return content_hash(self._shape)

    @property
    def _shape(self) -> list[dict[str, Any]]:
        config = self.config.model_dump(
            mode="json", include={"objectives", "constraints", "sampler", "pruner", "search"}
        )
        arms: dict[str, Any] = {}
        for arm in self.searched:
            arms[arm.name] = [dict(arm.settings), {k: p.model_dump(mode="json") for k, p in arm.space.items()}]
            trial = self.trial(arm, {}, self.config.search.seeds[0])
            if trial.needs or any(member.source is not None for member in trial.members):
                arms[arm.name].append(trial.trial_id)  # it follows from other arms and files as well
        return [config, arms]

    @property
    def about(self) -> dict[str, Any]:
        """What its folder tells of it (no password of its storage)."""
        kept = {"budget", "search", "race", "confirm", "sampler", "pruner", "constraints"}
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "path": str(self.path),
            "storage": shown_storage(self.config.storage),
            "arms": [arm.name for arm in self.searched],
            "objectives": [objective.model_dump(mode="json") for objective in self.objectives],
            "space": {arm.name: {k: p.model_dump(mode="json") for k, p in arm.space.items()} for arm in self.searched},
            **self.config.model_dump(mode="json", include=kept),
        }

    def check_begun(self, fingerprint: str, about: Mapping[str, Any]) -> None:
        """Check that a stored search is this one.

        Args:
            fingerprint: of the stored search.
            about: what its folder tells of it (`about`), as far as it does.

        Raises:
            UserError: it has another fingerprint; the line names the first setting that differs.
        """
        if fingerprint == self.old_fingerprint:
            raise UserError(
                f"{self.path}: the study {self.name!r} was begun before validation sets were drawn as samples, so its "
                "trials cannot be compared with new ones; give the sweep another name"
            )
        if fingerprint != self.fingerprint:
            now = self.about
            shaping = ("objectives", "constraints", "sampler", "pruner", "search", "space")
            found = (_difference(key, about[key], now[key]) for key in shaping if key in about)
            differs = next((text for text in found if text), "a setting of the experiment's arms")
            raise UserError(
                f"{self.path}: the study {self.name!r} was begun with other settings ({differs}); only the budget, the "
                "race and the confirm phase may change; give the sweep another name"
            )


def _difference(key: str, there: Any, here: Any) -> str | None:
    """The first value that differs between two settings, with its place; None where none does."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        inner = (_difference(f"{key}.{name}", there.get(name), here.get(name)) for name in {**there, **here})
        return next((text for text in inner if text), None)
    return None if there == here else f"{key}: {there!r} there, {here!r} here"


def plan_confirm(sweep: Sweep, rows: Mapping[RowId, tuple[Arm, Mapping[str, Value]]]) -> Experiment:
    """The confirm phase as an experiment: one row a winner, the fresh seeds for each."""
    settings = {}
    trials = []
    for row, (arm, values) in rows.items():
        tree: dict[str, Any] = unshared(dict(arm.settings))
        for key, value in values.items():
            set_dotted(tree, key, value, f"row {row.name}")
        settings[row.name] = tree
        trials += [PlannedTrial(row.name, seed, sweep.trial(arm, values, seed)) for seed in sweep.config.confirm.seeds]
    design = sweep.experiment.config.design
    config = ExperimentConfig(
        design=design if isinstance(design, ForEach) else None,  # its places are those of rows and columns
        name=sweep.name,
        description=sweep.config.description or sweep.experiment.config.description,
        arms=settings,
        seeds=sweep.config.confirm.seeds,
        table=sweep.config.table,
    )
    parts = parts_of(sweep.made, trials)
    return Experiment(config, tuple(trials), sweep.path, cost_notes(trials), tuple(rows), parts)
