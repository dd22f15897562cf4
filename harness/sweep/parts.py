"""The trainings of a sweep that are neither searched nor rows: they give weights to others. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.trial import TrialConfig
from harness.records.failures import is_tried_again
from harness.records.store import RecordStore
from harness.records.trial_folder import TrialFolder
from harness.search.declaration import Sweep
from harness.search.tasks import search_folder


@dataclass(frozen=True)
class Count:
    """How many trials or trainings there will be at most, and how many are finished."""

    planned: int = 0
    finished: int = 0

    @property
    def new(self) -> int:
        return max(0, self.planned - self.finished)


def part_trials(sweep: Sweep, results: Path) -> Mapping[str, tuple[TrialConfig, Count]]:
    """Arm or part, or stage of one -> a trial of it, and how many there are: one for each seed of search and race,
    whose records are sealed and lie among the search's, and one for each seed of the confirm phase."""
    config, store = sweep.config, RecordStore(results, sweep.name)
    searching, confirming = (*config.search.seeds, *config.race.seeds), config.confirm.seeds
    rows = {sweep.trial(arm, {}, seed).trial_id for arm in sweep.arms if not arm.space for seed in confirming}
    found: dict[str, dict[str, TrialConfig]] = {}
    folders: dict[str, Callable[[str], TrialFolder]] = {}
    for arm in sweep.arms:
        for seed in (*(searching if arm.space else ()), *confirming):
            for part in sweep.needs_of(sweep.trial(arm, {}, seed)):
                trial_id = part.config.trial_id
                if trial_id not in rows:
                    found.setdefault(part.arm, {})[trial_id] = part.config
                    folders[trial_id] = store.trial if seed in confirming else _search_folders(sweep, results)
    return {
        name: (next(iter(trials.values())), count_records([*trials.values()], lambda i: folders[i](i)))
        for name, trials in found.items()
    }


def _search_folders(sweep: Sweep, results: Path) -> Callable[[str], TrialFolder]:
    return lambda trial_id: TrialFolder(search_folder(results, sweep.name, trial_id))


def count_records(configs: Sequence[TrialConfig], folder_of: Callable[[str], TrialFolder]) -> Count:
    """How many trials there are and how many of them are finished; those that are the same count once."""
    folders = [folder_of(trial_id) for trial_id in {config.trial_id for config in configs}]
    found = [(folder.summary(), folder.path) for folder in folders]
    kept = [one for one, path in found if one is not None and not is_tried_again(one, path)]
    return Count(len(folders), len(kept))
