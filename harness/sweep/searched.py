"""The trials of a search where its study is not here: a published sweep has search.json in its place.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.records.frozen import read_frozen
from harness.records.search import SearchPoint, SearchResult, read_search
from harness.records.store import TrialFolder
from harness.search.arm_search import point_of, search_folder
from harness.search.declaration import Sweep
from harness.search.stored_study import StoredArm, read_study

ENDED = ("complete", "pruned", "failed")


def points_by_arm(stored: Mapping[str, StoredArm], folder: Path) -> dict[str, list[SearchPoint]]:
    """The trials of a search by arm: of its study or, where that holds none, of the search.json in its folder.

    Raises:
        UserError: search.json is corrupt.
    """
    points = {arm: [point_of(arm, trial) for trial in study.trials] for arm, study in stored.items()}
    if not any(points.values()) and (result := read_search(folder)) is not None:
        points = {arm: [point for point in result.points if point.arm == arm] for arm in stored}
    return points


def published_search(sweep: Sweep, results: Path) -> SearchResult | None:
    """The whole search of a sweep whose study is not here, if the records are those that it would train; else None.

    Raises:
        UserError: search.json or the published records are corrupt, or the storage cannot be read.
    """
    folder = results / sweep.name
    result = read_search(folder)
    if result is None or not is_search_of(sweep, folder, whole=True):
        return None
    stored = read_study(study_place(sweep, results), sweep.name, [arm.name for arm in sweep.searched])
    if any(study.trials for study in stored.values()):
        return None
    for arm in sweep.searched:
        points = [point for point in result.points if point.arm == arm.name]
        num_planned = sweep.config.budget.trials or len(points)
        if [point.number for point in points] != list(range(num_planned)):
            return None
        if not all(is_kept(sweep, point, results) for point in points):
            return None
    return result


def study_place(sweep: Sweep, results: Path) -> str | Path:
    """The storage of a sweep's search: that of the file, or a file in its results."""
    return sweep.config.storage or results / sweep.name / "study.db"


def is_search_of(sweep: Sweep, folder: Path, whole: bool = False) -> bool:
    """Whether the search that ended in a folder was made with the sweep's settings; its budget counts if `whole`."""
    content = read_frozen(folder)
    if content is None or content["fingerprint"] != sweep.fingerprint:
        return False
    return not whole or content["budget"] == sweep.config.budget.model_dump(mode="json")


def is_kept(sweep: Sweep, point: SearchPoint, results: Path) -> bool:
    """Whether a trial of search.json has ended, and its trainings are those of the sweep as it is now, and are here."""
    arm = next((arm for arm in sweep.searched if arm.name == point.arm), None)
    if arm is None or point.state not in ENDED:
        return False
    ids = [sweep.trial(arm, point.params, seed).trial_id for seed in sweep.config.search.seeds]
    if list(point.trial_ids) != ids[: len(point.trial_ids)]:
        return False
    return all(TrialFolder(search_folder(results, sweep.name, i)).is_finished() for i in point.trial_ids)
