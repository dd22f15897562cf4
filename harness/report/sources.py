"""Read what a report is made from: the manifest, the records and, of a sweep, its search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.config.rows import find_rows
from harness.errors import UserError
from harness.records.frozen import read_frozen
from harness.records.predictions import Predictions, read_predictions
from harness.records.schema import Manifest, Record
from harness.records.search import SearchPoint, SearchResult, read_search
from harness.records.store import MANIFEST, RecordStore
from harness.records.task import primary_of
from harness.records.trial_folder import TrialFolder
from harness.tasks.registry import task_with_metrics


@dataclass(frozen=True)
class Sources:
    """Everything on disk about one experiment or sweep.

    Attributes:
        manifest: None for a sweep before its confirm phase: no test number is known, and none is shown.
        records: (arm, seed) -> finished record, in the table's order.
        search, frozen: of a sweep, as far as it has got.
    """

    store: RecordStore
    manifest: Manifest | None
    records: Mapping[tuple[str, int], Record] = field(default_factory=dict)
    search: SearchResult | None = None
    frozen: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        return self.store.name

    @property
    def arms(self) -> tuple[str, ...]:
        """The rows of the table; before the confirm phase, the searched arms."""
        if self.manifest is not None:
            return tuple(self.manifest.arms)
        return tuple(self.search.axes) if self.search is not None else ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """All planned seeds, in order."""
        planned = self.manifest.arms.values() if self.manifest is not None else ()
        return tuple(dict.fromkeys(seed for seeds in planned for seed in seeds))

    def complete(self, arm: str | None = None) -> Iterator[tuple[str, int, Record]]:
        """Complete trials of an arm (of all arms), in the table's order."""
        for (name, seed), record in self.records.items():
            if record.summary.state == "complete" and arm in (None, name):
                yield name, seed, record

    @cached_property
    def configs(self) -> Mapping[str, Mapping[str, Any]]:
        """An arm's config (of its first seed, without the seed), in the table's order.

        Before the confirm phase: that of the arm's first search record.
        """
        found: dict[str, Mapping[str, Any]] = {}
        for (arm, _), record in self.records.items():
            found.setdefault(arm, without_seed(record.config))
        if not found and self.search is not None:
            for point in self.search.points:
                for trial_id in point.trial_ids:
                    folder = TrialFolder(self.store.path / "search" / trial_id)
                    if point.arm not in found and folder.has_started():
                        found[point.arm] = without_seed(folder.config())
        return found

    @cached_property
    def primary(self) -> str | None:
        """The primary metric (`macro_f1`, `cer`); None where no record has one."""
        for _, _, record in self.complete():
            return primary_of(record)
        for point in self.search.points if self.search is not None else ():
            if point.valid:
                first, task = self._search_record(point), task_with_metrics(point.valid)
                return primary_of(first) if first is not None else None if task is None else task.primary
        return None

    def _search_record(self, point: SearchPoint) -> Record | None:
        """The record of a search point's first training, where it is still there."""
        folders = (TrialFolder(self.store.path / "search" / trial_id) for trial_id in point.trial_ids)
        return next((record for folder in folders if (record := folder.record()) is not None), None)

    @cached_property
    def untrained(self) -> Record | None:
        """A record of an arm that leaves the base model as it is."""
        return next((r for _, _, r in self.complete() if r.config.get("train") == "none"), None)

    @property
    def baseline(self) -> str | None:
        """The baseline: the table's, else an arm that trains nothing, else the first arm."""
        if self.manifest is None:
            return None
        named = self.manifest.table.get("baseline")
        if rows := find_rows(str(named), self.manifest.row_ids):
            return rows[0]
        untrained = [arm for arm, config in self.configs.items() if config.get("train") == "none"]
        return next(iter([*untrained, *self.manifest.arms]), None)

    def predictions(self, arm: str) -> dict[int, Predictions]:
        """An arm's test predictions by seed, of the complete trials that have them.

        Raises:
            UserError: a file of predictions is corrupt.
        """
        found = {}
        for _, seed, record in self.complete(arm):
            predictions = read_predictions(self.store.trial(record.trial_id))
            if predictions is not None:
                found[seed] = predictions
        return found

    def folder(self, record: Record) -> TrialFolder:
        """The folder of a record of the table."""
        return self.store.trial(record.trial_id)


def without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without its seed."""
    return {key: value for key, value in config.items() if key != "seed"}


def load_sources(results: Path, name: str) -> Sources:
    """Read everything on disk about one experiment or sweep.

    Raises:
        UserError: nothing has been run under it (the choices are named), or a file is corrupt.
    """
    store = RecordStore(results, name)
    search, frozen = read_search(store.path), read_frozen(store.path)
    if not (store.path / MANIFEST).exists() and (store.path / "sweep.json").exists():
        if search is None:
            raise UserError(f"{store.path}: the search is not finished; see: harness status {name}")
        return Sources(store, None, {}, search, frozen)
    manifest = store.manifest()
    records = {}
    for arm, seeds in manifest.arms.items():
        for seed, trial_id in seeds.items():
            record = store.trial(trial_id).whole_record()
            if record is not None:
                records[arm, seed] = record
    if not any(record.summary.state == "complete" for record in records.values()):
        raise UserError(f"{store.path}: no trial of {name} is finished, so there is nothing to report")
    return Sources(store, manifest, records, search, frozen)
