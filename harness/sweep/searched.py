"""What is known of a search: of one that goes on here, of one that was published, of one with an older database.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.config.execution import PLAIN, Execution
from harness.config.yaml import read_yaml
from harness.errors import UserError
from harness.records.files import REMAKE, read_json
from harness.records.frozen import read_frozen
from harness.records.points import POINTS, EndedTrial, read_points
from harness.records.search import SearchPoint, SearchResult, read_search
from harness.records.trial_folder import TrialFolder
from harness.search.declaration import Sweep
from harness.search.old_study import OldArm, read_old
from harness.search.tasks import search_folder

ENDED = ("complete", "pruned", "failed")
SWEEP_FILE = "sweep.json"


@dataclass(frozen=True)
class Searched:
    """What is known of a sweep's search.

    Attributes:
        points: the trials that have ended, by arm and number.
        executions: the engines that its arms were begun with.
        fingerprint: of the search that goes on here; None where there is none, or only what was published of one.
        old: the arms of a search that has an older database, and no points yet.
        about: the content of its sweep.json; empty where there is none.
    """

    points: Mapping[str, Sequence[SearchPoint]]
    executions: Mapping[str, Execution] = field(default_factory=dict)
    fingerprint: str | None = None
    old: Mapping[str, Sequence[EndedTrial]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


def read_searched(folder: Path, arms: Sequence[str], place: str | Path) -> Searched:
    """Read what is known of a search; nothing is written.

    Args:
        folder: the sweep's, `RESULTS/NAME`.
        place: where its database was, if it is older than its records are its storage.

    Raises:
        UserError: a file is corrupt, or the older database cannot be read.
    """
    about, executions = read_about(folder), read_executions(folder)
    if (folder / POINTS).is_dir():
        points = {arm: [ended.point for ended in found] for arm, found in read_points(folder, arms).items()}
        return Searched(points, executions, about.get("fingerprint"), about=about)
    if about and "fingerprint" not in about:
        old = read_old(place, folder.name, arms)
        begun = [study.attrs["fingerprint"] for study in old.values() if "fingerprint" in study.attrs]
        if begun or any(study.ended for study in old.values()):
            points = {arm: [ended.point for ended in study.ended] for arm, study in old.items()}
            trials = {arm: study.ended for arm, study in old.items()}
            return Searched(points, _old_executions(old), begun[0] if begun else None, trials, about)
    return Searched(published_points(folder, arms), executions, about=about)


def published_points(folder: Path, arms: Sequence[str]) -> dict[str, list[SearchPoint]]:
    """The trials of a search.json by arm; none where there is no such file.

    Raises:
        UserError: it is corrupt.
    """
    result = read_search(folder)
    known = () if result is None else result.points
    return {arm: [point for point in known if point.arm == arm] for arm in arms}


def read_about(folder: Path) -> dict[str, Any]:
    """The content of a sweep's sweep.json; empty where there is none.

    Raises:
        UserError: it is corrupt.
    """
    path = folder / SWEEP_FILE
    about = read_json(path) if path.exists() else {}
    if not isinstance(about, dict):
        raise UserError(f"{path}: expected a JSON object; run the sweep again, which writes it")
    return about


def read_executions(folder: Path) -> dict[str, Execution]:
    """The engines that a sweep's arms were begun with, as its sweep.json tells them.

    Raises:
        UserError: it is corrupt.
    """
    try:
        return TypeAdapter(dict[str, Execution]).validate_python(read_about(folder).get("execution") or {})
    except ValidationError as error:
        raise UserError(f"{folder / SWEEP_FILE}: execution: not the engines of the arms; {REMAKE}") from error


def _old_executions(old: Mapping[str, OldArm]) -> dict[str, Execution]:
    """The engines of older studies; one that was begun before there was a choice has the plain loop."""
    told = {arm: study.attrs.get("execution") for arm, study in old.items()}
    known = {arm: Execution.model_validate(each) for arm, each in told.items() if each is not None}
    return {arm: PLAIN for arm, study in old.items() if study.ended} | known


def published_search(sweep: Sweep, results: Path) -> SearchResult | None:
    """The whole search of a sweep that was published, if the records are those that it would train; else None.

    Raises:
        UserError: search.json or the published records are corrupt, or an older database cannot be read.
    """
    folder = results / sweep.name
    result = read_search(folder)
    if result is None or not is_search_of(sweep, folder, whole=True):
        return None
    searched = read_searched(folder, [arm.name for arm in sweep.searched], study_place(sweep, results))
    if searched.fingerprint is not None or searched.old:
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
    """Where Optuna's view of a sweep's search is: the storage of the file, or a file in its results."""
    return sweep.config.storage or results / sweep.name / "study.db"


def told_place(about: Mapping[str, Any], folder: Path) -> str | Path:
    """As `study_place`, by sweep.json; a password is not in it, so it is read from the sweep file."""
    storage = about.get("storage")
    if not isinstance(storage, str) or not storage:
        return folder / "study.db"
    if "***" in storage:
        path = Path(str(about.get("path", "")))
        given = read_yaml(path).get("storage") if path.is_file() else None
        return str(given or storage)
    return str(storage)


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
