"""How a sweep is going, read from what it leaves on disk while it may be running.

Nothing is written and nothing is waited for. Loads no torch.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from harness.errors import UserError
from harness.launch.process_memory import PeakUse, read_peaks
from harness.records.files import first_problem, read_json
from harness.records.leases import holder
from harness.records.search import Objective, SearchPoint
from harness.records.starts import read_starts
from harness.records.store import MANIFEST, RecordStore
from harness.records.trial_folder import TrialFolder
from harness.sweep.searched import SWEEP_FILE, published_points, read_searched, told_place
from harness.sweep.workers import Held, is_under_way, read_held, waits

Phase = Literal["search", "race", "confirm", "finished", "failed"]
OVER: tuple[Phase, ...] = ("finished", "failed")  # nothing more happens, unless somebody launches the sweep again


@dataclass(frozen=True)
class Running:
    """A trial that is being trained, or was when its process ended (`alive` is False then)."""

    number: int
    step: int
    alive: bool


@dataclass(frozen=True)
class ArmStatus:
    """One arm's search.

    Attributes:
        planned: trials of the budget; None where it is in seconds.
        left_s: of training, one trial after another; None when nothing tells.
    """

    name: str
    planned: int | None
    points: tuple[SearchPoint, ...]
    running: tuple[Running, ...]
    best: SearchPoint | None
    finished: bool
    left_s: float | None = None

    def count(self, state: str) -> int:
        """How many trials are in a state."""
        return sum(point.state == state for point in self.points)

    @property
    def num_finished(self) -> int:
        return sum(self.count(state) for state in ("complete", "pruned", "failed"))

    @property
    def reasons(self) -> dict[str, int]:
        """Why trials failed, and how many."""
        return dict(Counter(point.reason or "error" for point in self.points if point.state == "failed"))


@dataclass(frozen=True)
class SweepStatus:
    """A sweep: its phase, its arms, and (finished, planned) trainings of race and confirm; planned None: unknown.

    `peaks` are the peak memories of the launches that have ended; `held` who trains what; `waits` what waits for what;
    `lost` why no winner can be chosen, of a sweep that failed; `is_under_way` whether a launch of it lives.
    """

    name: str
    phase: Phase
    objectives: tuple[Objective, ...]
    arms: tuple[ArmStatus, ...]
    race: tuple[int, int]
    confirm: tuple[int, int | None]
    peaks: tuple[PeakUse, ...] = ()
    held: tuple[Held, ...] = ()
    waits: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    is_under_way: bool = False

    @property
    def num_workers(self) -> int:
        """Trials of the search that are being trained now."""
        return sum(running.alive for arm in self.arms for running in arm.running)

    @property
    def left_s(self) -> float | None:
        """Time left of the search, with the workers seen (at least one); None when nothing tells."""
        times = [arm.left_s for arm in self.arms]
        if self.phase != "search" or any(time is None for time in times):
            return None
        return sum(time or 0.0 for time in times) / max(1, self.num_workers)


def read_status(name: str, results: Path) -> SweepStatus:
    """Read how a sweep is going.

    Raises:
        UserError: a file of the sweep is corrupt, or its storage cannot be read.
        TrialError: the file of its peak memory is corrupt.
    """
    folder = results / name
    about = read_json(folder / SWEEP_FILE)
    if not isinstance(about, dict):
        raise UserError(f"{folder / SWEEP_FILE}: expected a JSON object; run the sweep again, which writes it")
    try:
        objectives = TypeAdapter(tuple[Objective, ...]).validate_python(about.get("objectives") or ())
        names = TypeAdapter(list[str]).validate_python(about.get("arms") or [])
    except ValidationError as error:
        raise UserError(f"{folder / SWEEP_FILE}: {first_problem(error)}") from error
    budget = _mapping(about.get("budget"))
    known = _read_points(about, folder, names)
    limit = math.inf if budget.get("trials") is None else budget["trials"]  # a greater budget may have gone before
    points = {arm: [point for point in found if point.number < limit] for arm, found in known.items()}
    begun = _read_running(folder, known)
    running = {arm: [one for one in found if one.number < limit] for arm, found in begun.items()}
    arms = [_arm_status(arm, points[arm], running.get(arm, ()), budget, objectives) for arm in names]
    arms = _with_time_left(arms, budget)
    race, confirm = _race_count(about, folder, len(arms)), _confirm_count(folder)
    phase, peaks = _phase(about, folder, arms, confirm), tuple(read_peaks(folder))
    if lost := _lost(about, folder, arms) if phase == "race" else ():
        phase = "failed"
    lag = int(_mapping(about.get("search")).get("lag") or 4)
    numbers = [(arm, [p.number for p in arm.points], [r.number for r in arm.running if r.alive]) for arm in arms]
    told = [waits(arm.name, ended, alive, arm.planned, lag) for arm, ended, alive in numbers if not arm.finished]
    held, waiting = tuple(read_held(folder)), tuple(text for text in told if text is not None)
    about_it = (peaks, held, waiting, lost, is_under_way(folder))
    return SweepStatus(name, phase, objectives, tuple(arms), race, confirm, *about_it)


def _read_points(about: Mapping[str, Any], folder: Path, names: Sequence[str]) -> Mapping[str, Sequence[SearchPoint]]:
    """The trials that have ended; those of search.json where the server of an older search is silent."""
    try:
        return read_searched(folder, names, told_place(about, folder)).points
    except UserError:
        if not (folder / "search.json").exists():
            raise
        return published_points(folder, names)


def _read_running(folder: Path, points: Mapping[str, Sequence[SearchPoint]]) -> dict[str, list[Running]]:
    """The trials of the search that were started and have not ended, by arm."""
    ended = {(arm, point.number) for arm, found in points.items() for point in found}
    begun: dict[tuple[str, int], dict[Path, TrialFolder]] = {}
    for start in read_starts(folder)[0]:
        key = (start.run.arm, start.run.number)
        if start.run.phase == "search" and key[1] is not None and key not in ended and key[0] in points:
            begun.setdefault((key[0], key[1]), {})[start.folder.path] = start.folder
    running: dict[str, list[Running]] = {}
    for (arm, number), folders in sorted(begun.items(), key=lambda item: item[0][1]):
        held = [holder(path) for path in folders]
        alive = any(each is not None and not each.is_gone(time.time()) for each in held)
        step = sum(each.num_logged() for each in folders.values())
        running.setdefault(arm, []).append(Running(number, step, alive))
    return running


def _arm_status(
    name: str,
    points: Sequence[SearchPoint],
    running: Sequence[Running],
    budget: Mapping[str, Any],
    objectives: Sequence[Objective],
) -> ArmStatus:
    planned = budget.get("trials")
    ended = [point for point in points if point.state in ("complete", "pruned", "failed")]
    if planned is not None:
        finished = len(ended) >= planned
    else:
        spent, limit = sum(point.seconds for point in ended), budget.get("seconds")
        finished = limit is not None and not running and spent >= limit
    complete = [point for point in points if point.state == "complete" and point.values]
    best = None
    if complete and objectives:
        sign = 1 if objectives[0].direction == "maximize" else -1
        best = max(complete, key=lambda point: (sign * point.values[0], -point.number))
    return ArmStatus(name, planned, tuple(points), tuple(running), best, finished)


def _with_time_left(arms: Sequence[ArmStatus], budget: Mapping[str, Any]) -> list[ArmStatus]:
    """Trials left by the mean seconds of a finished one, of this arm or (it has none yet) of all."""
    seconds = {arm.name: [p.seconds for p in arm.points if p.state in ("complete", "pruned")] for arm in arms}
    everywhere = [second for found in seconds.values() for second in found]
    timed = []
    for arm in arms:
        own = seconds[arm.name] or everywhere
        left: float | None = None
        if arm.finished:
            left = 0.0
        elif arm.planned is None and budget.get("seconds") is not None:
            left = max(0.0, budget["seconds"] - sum(seconds[arm.name]))
        elif own and arm.planned is not None:
            left = max(0, arm.planned - arm.num_finished) * fmean(own)
        timed.append(ArmStatus(arm.name, arm.planned, arm.points, arm.running, arm.best, arm.finished, left))
    return timed


def _race_count(about: Mapping[str, Any], folder: Path, num_arms: int) -> tuple[int, int]:
    race = _mapping(about.get("race"))
    seeds = race.get("seeds") or []
    if not seeds:
        return 0, 0
    rules = _mapping(about.get("confirm")).get("rules") or []
    most = int(race.get("candidates") or 1) * (2 if "constrained" in rules else 1) * len(seeds) * num_arms
    found = sum(config.get("seed") in seeds for config in _configs(RecordStore(folder.parent, folder.name)))
    return found, max(most, found)


def _configs(store: RecordStore) -> Iterator[dict[str, Any]]:
    """The configs of the finished records of the search; those that cannot be read are for others to report."""
    for trial in store.finished("search"):
        with suppress(UserError):
            yield trial.config()


def _confirm_count(folder: Path) -> tuple[int, int | None]:
    """Finished and planned trainings of the confirm phase; planned is None before its manifest is written."""
    if not (folder / MANIFEST).exists():
        return 0, None
    store = RecordStore(folder.parent, folder.name)
    ids = {trial_id for seeds in store.manifest().arms.values() for trial_id in seeds.values()}
    return sum(store.trial(trial_id).is_finished() for trial_id in ids), len(ids)


def _lost(about: Mapping[str, Any], folder: Path, arms: Sequence[ArmStatus]) -> tuple[str, ...]:
    """Why no winner can be chosen: an arm without a complete trial, or one of which all that raced have failed."""
    if is_under_way(folder):
        return ()
    lost = [f"{arm.name}: no trial of its search was completed" for arm in arms if not arm.count("complete")]
    raced: dict[tuple[str, int], dict[Path, TrialFolder]] = {}
    for start in read_starts(folder)[0]:
        if start.run.seed in (_mapping(about.get("race")).get("seeds") or []) and start.run.phase == "search":
            raced.setdefault((start.run.arm, start.run.seed), {})[start.folder.path] = start.folder
    for (arm, seed), folders in raced.items():
        summaries = [each.summary() for each in folders.values()]
        if all(summary is not None and summary.state == "failed" for summary in summaries):
            lost.append(f"{arm}: all settings in the race failed on seed {seed}")
    return tuple(lost)


def _phase(about: Mapping[str, Any], folder: Path, arms: Sequence[ArmStatus], confirm: tuple[int, int | None]) -> Phase:
    if not all(arm.finished for arm in arms):
        return "search"
    frozen = _mapping(read_json(folder / "frozen.json")) if (folder / "frozen.json").exists() else None
    if frozen is None or any(frozen.get(key) != about.get(key) for key in ("budget", "race")):
        return "race"  # a greater budget than that of frozen.json freezes anew
    return "finished" if confirm[0] == confirm[1] else "confirm"


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
