"""Read experiments from disk as trials: one for each planned arm and seed, with its record if it is finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.config.design import METHOD, level_text
from harness.config.rows import RowId
from harness.config.table import rows_named
from harness.config.trees import MISSING, get_dotted
from harness.config.trial import is_deterministic
from harness.errors import UserError
from harness.metrics import RECORDED
from harness.records.predictions import PredictedItem, read_test_items
from harness.records.schema import Manifest, Record, Summary
from harness.records.search import read_search
from harness.records.store import RecordStore
from harness.records.task import task_of
from harness.records.trial_folder import TrialFolder
from harness.tables.model import TrialRef
from harness.tables.values import derived_value, primary_name
from harness.tasks.task import WholeTask

DIMENSIONS = ("arm", "target", "experiment")  # what cells can be told apart by, besides a trial's settings


def state_text(record: Record | None) -> str:
    """`missing`, or the record's state with its reason: `failed (nan)`."""
    if record is None:
        return "missing"
    state, reason = record.summary.state.value, record.summary.reason
    return f"{state} ({reason})" if reason else state


@dataclass
class LoadedTrial:
    """A planned trial and, once it is finished, its record; `position` is where its arm stands in a design."""

    ref: TrialRef
    record: Record | None
    position: Mapping[str, Any] = field(default_factory=dict)
    folder: TrialFolder | None = None

    @property
    def place(self) -> str:
        """What its arm is compared in: its experiment or, under a name of a `for_each`, one place of those repeated."""
        return ", ".join([self.ref.experiment, self.levels] if self.levels else [self.ref.experiment])

    @property
    def levels(self) -> str:
        """Under a name of a `for_each`, the values that it stands at, as in `ro, 100`; else empty."""
        if str(self.position.get(METHOD)) != self.ref.arm:
            return ""
        return ", ".join(level_text(level) for name, level in self.position.items() if name != METHOD)

    @property
    def whole_name(self) -> str:
        """Its arm with the values of a `for_each`, as in `a, ro`, be the arm shown with them or without."""
        return f"{self.ref.arm}, {self.levels}" if self.levels else self.ref.arm

    def test_items(self) -> Mapping[str, Sequence[PredictedItem]] | None:
        """Its test items by domain; None where its record does not keep their references (a search has none).

        Raises:
            UserError: the file of predictions is corrupt.
        """
        return None if self.folder is None else read_test_items(self.folder)

    @property
    def summary(self) -> Summary | None:
        """The record's summary."""
        return None if self.record is None else self.record.summary

    @cached_property
    def complete(self) -> bool:
        """Whether it has numbers."""
        return self.record is not None and self.record.summary.state == "complete"

    @property
    def is_deterministic(self) -> bool:
        """Whether nothing was trained, so that the numbers are the same for every seed and have no spread over them."""
        return self.record is not None and is_deterministic(self.record.config)

    @property
    def state(self) -> str:
        """`missing`, or the record's state with its reason: `failed (nan)`."""
        return state_text(self.record)

    def coordinate(self, dimension: str) -> Any:
        """The trial's arm, target or experiment, a factor of its design, or a setting; `MISSING` if it has none."""
        if dimension == "arm":
            return self.ref.arm
        if dimension == "experiment":
            return self.ref.experiment
        if dimension in self.position:
            return self.position[dimension]
        if self.record is None:
            return MISSING
        value = get_dotted(self.record.config, "data.target" if dimension == "target" else dimension)
        return tuple(value) if isinstance(value, list) else value

    @cached_property
    def numbers(self) -> dict[str, float]:
        """Every recorded number by name: metrics, costs, validation metrics, `DOMAIN/METRIC`."""
        if self.record is None:
            return {}
        summary = self.record.summary
        found = {**summary.valid, **summary.metrics, **summary.costs}
        if summary.best_epoch is not None:
            found["best_epoch"] = float(summary.best_epoch)
        for domain, metrics in summary.by_domain.items():
            found |= {f"{domain}/{name}": value for name, value in metrics.items()}
        return found

    def metric(self, name: str) -> float | None:
        """A metric as recorded (a fraction), or computed from the record; None where the record has neither."""
        if not self.complete or self.record is None:
            return None
        found = self.numbers.get(name)
        if found is not None:
            return found
        resolved = primary_name(name, self.record)
        return self.numbers[resolved] if resolved in self.numbers else derived_value(resolved, self.record)


@dataclass(frozen=True)
class Loaded:
    """The trials of one experiment or several, with their manifests."""

    manifests: tuple[Manifest, ...]
    trials: tuple[LoadedTrial, ...]
    path: Path

    @property
    def names(self) -> str:
        """The experiments, for messages."""
        return ", ".join(manifest.name for manifest in self.manifests)

    @cached_property
    def rows(self) -> tuple[RowId, ...]:
        """The possible rows in the order of the experiments: arms or, in a sweep, their winners."""
        known = {row.name: row for manifest in self.manifests for row in manifest.row_ids}
        return tuple(known.get(name, RowId(name)) for name in self.arms)

    @property
    def arms(self) -> list[str]:
        """The names of the rows."""
        return list(dict.fromkeys(trial.ref.arm for trial in self.trials))

    @cached_property
    def tasks(self) -> frozenset[type[WholeTask]]:
        """The tasks that the finished trials were trained on."""
        found = (task_of(trial.record) for trial in self.trials if trial.record is not None)
        return frozenset(task for task in found if task is not None)

    def by_method(self, dimensions: Sequence[str]) -> Loaded:
        """The same trials, with the arms of a `for_each` under their names without the values of `over`.

        Args:
            dimensions: of the table's rows and columns. Where none of them is repeated over, all stays as it is.
        """
        return replace(
            self,
            trials=tuple(
                replace(trial, ref=replace(trial.ref, arm=str(trial.position[METHOD])))
                if METHOD in trial.position and any(name in trial.position for name in dimensions)
                else trial
                for trial in self.trials
            ),
        )

    def with_rows(self, *names: str | None) -> Loaded:
        """The same trials or, where all names are those of a `for_each` without values, `by_method`."""
        positions = [trial.position for trial in self.trials if METHOD in trial.position]
        known = {str(position[METHOD]) for position in positions}
        wanted = {*names} - {None}
        if not wanted or not wanted <= known:
            return self
        return self.by_method([name for position in positions[:1] for name in position])

    def rows_named(self, name: str, where: str) -> list[str]:
        """The names of the rows that a name in the settings means.

        Raises:
            UserError: it means none; one line with the choices.
        """
        return rows_named(name, self.rows, where, self.names)

    def row_meant(self, name: str, where: str) -> tuple[str, str]:
        """The row that a name means where one row is needed, and what must be said of that: empty if it has one row.

        Raises:
            UserError: it means none; one line with the choices.
        """
        row, *others = self.rows_named(name, where)
        return row, f"{name} has several rows, of which {row} is meant and not {', '.join(others)}" if others else ""

    def metric_names(self) -> list[str]:
        """The metrics that some finished record has, in the order of `RECORDED`, then those by domain."""
        found = {name for trial in self.trials if trial.complete for name in trial.numbers}
        return [name for name in RECORDED if name in found] + sorted(name for name in found if name not in RECORDED)


def load_experiments(results: Path, names: Sequence[str], phase: str = "confirm") -> Loaded:
    """Read everything a table of some experiments can need.

    Args:
        phase: `confirm` reads records/, `search` a sweep's search/ (validation numbers only).

    Raises:
        UserError: an experiment has not been run, or a file is corrupt.
    """
    manifests, trials = [], []
    for name in names:
        store = RecordStore(results, name)
        if phase == "search":
            found = _read_search(store)
            manifests.append(Manifest(name=name, arms={}, description=""))
        else:
            manifest = store.manifest()
            manifests.append(manifest)
            found = _read_confirm(store, manifest)
        trials += found
    path = results / names[0] if len(names) == 1 else results
    return Loaded(tuple(manifests), tuple(trials), path)


def any_finished(store: RecordStore) -> bool:
    """Whether an experiment has a trial with numbers.

    Raises:
        UserError: it has not been run, or a file is corrupt.
    """
    ids = (trial_id for seeds in store.manifest().arms.values() for trial_id in seeds.values())
    return any((summary := store.trial(i).summary()) is not None and summary.state == "complete" for i in ids)


def _read_confirm(store: RecordStore, manifest: Manifest) -> list[LoadedTrial]:
    positions = positions_of(manifest)
    records: dict[str, Record | None] = {}
    trials = []
    for arm, seeds in manifest.arms.items():
        for seed, trial_id in seeds.items():
            if trial_id not in records:
                records[trial_id] = store.trial(trial_id).record()
            ref = TrialRef(manifest.name, arm, seed, trial_id)
            trials.append(LoadedTrial(ref, records[trial_id], positions.get(arm, {}), store.trial(trial_id)))
    return trials


def positions_of(manifest: Manifest) -> dict[str, Mapping[str, Any]]:
    """Row -> where its arm stands in the design. Its winners stand there, too, under their own names."""
    positions: dict[str, Mapping[str, Any]] = manifest.design["arms"] if manifest.design else {}
    found: dict[str, Mapping[str, Any]] = {}
    for row in manifest.row_ids:
        position = positions.get(row.arm, {})
        own = {METHOD: RowId(str(position[METHOD]), row.rules).name} if METHOD in position else {}
        found[row.name] = {**position, **own}
    return found


def _read_search(store: RecordStore) -> list[LoadedTrial]:
    """The trainings of a sweep's search, from search.json and the records in search/."""
    result = read_search(store.path)
    if result is None:
        raise UserError(f"{store.path}: phase: search shows the search of a sweep, but there is no search.json")
    trials = []
    for point in result.points:
        for trial_id in point.trial_ids:
            record = TrialFolder(store.path / "search" / trial_id).record()
            seed = record.config["seed"] if record is not None else 0
            trials.append(LoadedTrial(TrialRef(store.name, point.arm, seed, trial_id, "search"), record))
    return trials
