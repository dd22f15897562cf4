"""Plan a sweep or an experiment before it starts: what is finished, what is left to train, and what that costs.

Counts are upper bounds: pruning, early stopping and the race only make a search shorter. Nothing is written, and the
study is not created. What is finished costs nothing to plan: no torch is loaded, nothing is probed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.execution import Execution
from harness.config.experiment import Experiment, PlannedTrial
from harness.config.rows import RowId
from harness.config.sweep import Parameter
from harness.config.trial import TrialConfig
from harness.data.describe import ToldOfData
from harness.data.loaded import LoadedCorpora
from harness.engines.prices import Price, PriceMeter, Prices, RecordedPrices, disk_mb
from harness.errors import UserError
from harness.launch.run_experiment import check_run_fits, plan_run, preflight, tasks_of
from harness.records.frozen import read_frozen
from harness.records.search import SearchPoint, Value
from harness.records.store import RecordStore
from harness.records.trial_folder import TrialFolder
from harness.search import reach, space
from harness.search.declaration import Arm, Sweep, plan_confirm
from harness.search.preflight import check_sweep_fits, get_ready, preflight_sweep
from harness.search.tasks import search_folder
from harness.sweep.parts import Count, count_records, part_trials
from harness.sweep.searched import ENDED, is_kept, is_search_of, read_searched, study_place
from harness.tables.planned import check_experiment_table

if TYPE_CHECKING:  # torch is loaded only when there is something to train
    from harness.launch.launchers import LauncherChoice
    from harness.training.resources import Resources


@dataclass(frozen=True)
class ArmPlan:
    """One arm: `search` counts trials, each of `num_seeds` trainings; `race` and `confirm` count trainings.

    Attributes:
        search_s: seconds of search left, where the budget is in seconds.
        price: of one training; None when nothing is left to train.
        speed: its cut and its engine, in words; empty where nothing learns or nothing is left to train.
    """

    name: str
    searches: str
    search: Count
    race: Count
    confirm: Count
    num_seeds: int
    epochs: int
    price: Price | None = None
    search_s: float | None = None
    speed: str = ""

    @property
    def is_left(self) -> bool:
        """Whether anything is left to train."""
        return bool(self.search.new or self.search_s or self.race.new or self.confirm.new)

    @property
    def num_new(self) -> int:
        """Trainings that are left, at most."""
        return self.search.new * self.num_seeds + self.race.new + self.confirm.new

    @property
    def seconds(self) -> float | None:
        """Time for what is left, one training after another; None when it cannot be estimated."""
        if self.price is None:
            return self.search_s or 0.0
        if self.price.seconds is None:
            return None
        each = self.price.seconds
        search = self.search.new * self.num_seeds * each if self.search_s is None else self.search_s
        return search + self.race.new * each + self.confirm.new * (each + self.price.test_s)


@dataclass(frozen=True)
class SweepPlan:
    """All arms, and how many workers train them at once."""

    name: str
    path: Path
    arms: tuple[ArmPlan, ...]
    num_jobs: int
    data: ToldOfData = field(default_factory=ToldOfData)
    """What the data hold, and what was noticed in it and left out of it."""
    search_remarks: tuple[str, ...] = ()
    """What the budget does not let samplers and pruners do (harness.search.reach)."""

    @property
    def num_new(self) -> int:
        """Trainings that are left, at most."""
        return sum(arm.num_new for arm in self.arms)

    @property
    def num_finished(self) -> int:
        """Trainings of search and race that are finished."""
        return sum(arm.search.finished * arm.num_seeds + arm.race.finished for arm in self.arms)

    @property
    def num_searching(self) -> int:
        """Trainings of search and race, finished or not, at most."""
        return sum(arm.search.planned * arm.num_seeds + arm.race.planned for arm in self.arms)

    @property
    def wall_s(self) -> float:
        """Estimated time with all workers busy; arms that could not be measured are left out."""
        return sum(arm.seconds or 0.0 for arm in self.arms) / min(self.num_jobs, _num_cores(), max(1, self.num_new))

    @property
    def peak_memory_mb(self) -> float:
        """The peak memory of one worker, over all arms."""
        return max((arm.price.peak_memory_mb or 0.0 for arm in self.arms if arm.price is not None), default=0.0)

    @property
    def disk_mb(self) -> float:
        """The disk space that the trainings that are left need."""
        return sum(
            disk_mb(arm.price, arm.epochs, arm.search.new * arm.num_seeds + arm.race.new, arm.confirm.new)
            for arm in self.arms
            if arm.price is not None
        )


def plan_sweep(sweep: Sweep, results: Path, num_jobs: int, launching: LauncherChoice | None = None) -> SweepPlan:
    """Check, count and price a sweep.

    Args:
        launching: what will train, once this has been told (see `preflight_sweep`).

    Raises:
        UserError: the study was begun with other settings or cannot be read, or an arm does not fit its data, backbone
            or layers at some end of its space.
    """
    config = sweep.config
    folder = results / sweep.name
    searched = read_searched(folder, [arm.name for arm in sweep.searched], study_place(sweep, results))
    sweep.check_begun(searched.fingerprint or sweep.fingerprint, searched.about)
    points = {name: found[: config.budget.trials] for name, found in searched.points.items()}
    if searched.fingerprint is None:  # published: what is still what the sweep would train
        # Without frozen.json the search chose no winner (all its trials failed): the records alone say whose it is.
        same = read_frozen(folder) is None or is_search_of(sweep, folder)
        points = {name: [p for p in found if same and is_kept(sweep, p, results)] for name, found in points.items()}
    frozen = _frozen(sweep, points, results)
    confirm = _confirm_counts(sweep, frozen, results)
    arms = [
        _count_arm(sweep, arm, points.get(arm.name, []), confirm[arm.name], frozen is not None, results)
        for arm in sweep.arms
    ]
    parts = part_trials(sweep, results)
    arms += [
        ArmPlan(name, "gives weights", Count(), Count(), count, 1, trial.loop.epochs)
        for name, (trial, count) in parts.items()
    ]
    told = ToldOfData()
    if any(arm.is_left for arm in arms):
        RecordStore(results, sweep.name).check_place()
        corpora = LoadedCorpora(sealed=True)
        get_ready(sweep, launching)
        check_sweep_fits(sweep, corpora)
        resources = _load(corpora)
        told = preflight_sweep(sweep, resources, launching)
        prices = _prices(results, (sweep.name, sweep.experiment.name), resources)
        for number, arm in enumerate(sweep.arms):
            trial = sweep.trial(arm, costly_values(arm), sweep.config.search.seeds[0])
            known = None if searched.fingerprint is None else searched.executions.get(arm.name)
            arms[number] = _price_arm(arms[number], trial, prices, f"{sweep.path}: arm {arm.name}", known)
        for number, (name, (trial, _)) in enumerate(parts.items(), len(sweep.arms)):
            arms[number] = _price_arm(arms[number], trial, prices, f"{sweep.path}: arm {name}", None)
    counts = {arm.name: config.budget.trials for arm in sweep.searched if config.budget.trials is not None}
    return SweepPlan(sweep.name, sweep.path, tuple(arms), num_jobs, told, tuple(reach.remarks(sweep, counts)))


def plan_experiment(experiment: Experiment, trials: Sequence[PlannedTrial], results: Path, num_jobs: int) -> SweepPlan:
    """Check, count and price an experiment: the confirm phase alone.

    Raises:
        UserError: an arm does not fit its data, backbone or layers, or the table could not be made.
    """
    check_experiment_table(experiment)
    store = RecordStore(results, experiment.name)
    configs: dict[str, list[TrialConfig]] = {}
    for task in tasks_of(experiment, trials, store, False, {}):  # what gives weights to others included, once
        configs.setdefault(task.run.arm, []).append(task.config)
    arms = [
        ArmPlan(name, "", Count(), Count(), count_records(found, store.trial), 1, found[0].loop.epochs)
        for name, found in configs.items()
    ]
    told = ToldOfData()
    if any(arm.is_left for arm in arms):
        planned, corpora = plan_run(experiment, trials, results), LoadedCorpora()
        check_run_fits(planned, corpora)
        resources = _load(corpora)
        told = preflight(planned, resources)
        prices = _prices(results, (experiment.name,), resources)
        arms = [
            _price_arm(arm, configs[arm.name][0], prices, f"{experiment.path}: arm {arm.name}", None) for arm in arms
        ]
    return SweepPlan(experiment.name, experiment.path, tuple(arms), num_jobs, told)


def _count_arm(
    sweep: Sweep, arm: Arm, points: Sequence[SearchPoint], confirm: Count, is_frozen: bool, results: Path
) -> ArmPlan:
    """An arm of a sweep without its price."""
    budget, num_seeds = sweep.config.budget, len(sweep.config.search.seeds)
    finished = sum(point.state in ENDED for point in points)
    search = Count(budget.trials or finished, finished) if arm.space else Count()
    search_s = None
    if arm.space and budget.seconds is not None:
        search_s = 0.0 if is_frozen else max(0.0, budget.seconds - sum(point.seconds for point in points))
    race = _race_count(sweep, arm, points, is_frozen, results)
    searches = ", ".join(_range(key, parameter) for key, parameter in arm.space.items())
    epochs = sweep.trial(arm, costly_values(arm), sweep.config.search.seeds[0]).loop.epochs
    return ArmPlan(arm.name, searches, search, race, confirm, num_seeds, epochs, search_s=search_s)


def _price_arm(arm: ArmPlan, config: TrialConfig, prices: Prices, where: str, known: Execution | None) -> ArmPlan:
    """The arm with its price, if anything of it is left to train.

    Raises:
        UserError: it does not fit its data, backbone or layers.
    """
    if not arm.is_left:
        return arm
    try:
        price = prices.price(config)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    speed = prices.speed(config, known) if config.train != "none" else ""
    search = arm.search
    if arm.search_s and price.seconds:
        search = Count(search.finished + math.ceil(arm.search_s / price.seconds / arm.num_seeds), search.finished)
    return replace(arm, price=price, speed=speed, search=search)


def _load(corpora: LoadedCorpora) -> Resources:
    """What checks and probes share, so that a corpus is read and encoded once."""
    from harness.training.resources import Resources  # it loads torch

    return Resources(corpora.sealed, corpora)


def _prices(results: Path, names: tuple[str, ...], resources: Resources) -> Prices:
    def make_meter() -> PriceMeter:
        from harness.engines.measure import PriceProbe  # it loads torch

        return PriceProbe(resources)

    return Prices(RecordedPrices(results, names), make_meter)


def costly_values(arm: Arm) -> dict[str, Value]:
    """Searched settings that change what a training costs, at their high ends; the others stay the arm's own."""
    values: dict[str, Value] = {}
    for key, parameter in arm.space.items():
        if key.startswith("optim.") or ".adapter_strategy." in key:
            continue
        ends = space.extremes(parameter)
        numbers = [end for end in ends if isinstance(end, (int, float))]
        values[key] = max(numbers) if len(numbers) == len(ends) else ends[0]
    return values


def _range(key: str, parameter: Parameter) -> str:
    axis = space.axis_of(key, parameter)
    if axis.kind == "categorical":
        return f"{axis.label} {'/'.join(map(str, axis.choices))}"
    zero = "0 or " if axis.kind == "zero_or_log" else ""
    return f"{axis.label} {zero}{axis.low:g}..{axis.high:g}"


def _frozen(sweep: Sweep, points: Mapping[str, Sequence[SearchPoint]], results: Path) -> dict[str, Any] | None:
    """The content of frozen.json if the sweep, as it is now, would freeze the same; else None."""
    content = read_frozen(results / sweep.name)
    if content is None:
        return None
    config = sweep.config.model_dump(mode="json")
    same = ("objectives", "constraints", "budget", "race")
    chosen_by = ("rules", "regularisation")
    if (
        content.get("fingerprint") != sweep.fingerprint
        or any(content.get(key) != config[key] for key in same)
        or any(content.get("confirm", {}).get(key) != config["confirm"][key] for key in chosen_by)
    ):
        return None
    for found in points.values():
        if any(point.state not in ENDED for point in found) or len(found) < (sweep.config.budget.trials or 0):
            return None
    return content


def describe_outdated(sweep: Sweep, results: Path) -> str | None:
    """Why a search that ended under an older version is not reused; None where there is none."""
    frozen = read_frozen(results / sweep.name)
    if frozen is None or frozen.get("fingerprint") != sweep.old_fingerprint:
        return None
    return (
        f"{results / sweep.name}: this sweep was made before validation sets were drawn as samples: validation was the "
        "head of the file. It is not reused: search, race and confirm phase train anew, and new files take the place "
        "of the old"
    )


def _race_count(sweep: Sweep, arm: Arm, points: Sequence[SearchPoint], is_frozen: bool, results: Path) -> Count:
    """Trainings of the race; those of a contender that dropped out are neither finished nor planned."""
    race = sweep.config.race
    if not arm.space or not race.seeds:
        return Count()
    distinct = {point.trial_ids: point for point in points if point.state == "complete"}
    ids = [sweep.trial(arm, p.params, seed).trial_id for p in distinct.values() for seed in race.seeds]
    finished = sum(TrialFolder(search_folder(results, sweep.name, i)).is_finished() for i in ids)
    if is_frozen:
        return Count(finished, finished)
    contenders = race.candidates * (2 if "constrained" in sweep.config.confirm.rules else 1)
    limit = min(contenders, sweep.config.budget.trials or contenders)
    return Count(max(limit * len(race.seeds), finished), finished)


def _confirm_counts(sweep: Sweep, frozen: Mapping[str, Any] | None, results: Path) -> dict[str, Count]:
    """Trainings of the confirm phase by arm: known where the winners are, else as many as there may be."""
    confirm = sweep.config.confirm
    counts = {arm.name: Count(len(confirm.rules) * len(confirm.seeds)) for arm in sweep.searched}
    rows: dict[RowId, tuple[Arm, Mapping[str, Value]]] = {}
    for arm in sweep.arms:
        if not arm.space:
            rows[RowId(arm.name)] = (arm, {})
        elif frozen is not None:
            for rule, winner in frozen["arms"][arm.name]["winners"].items():
                rows[RowId(arm.name, (rule,))] = (arm, winner["params"])
    arm_of = {row.name: row.arm for row in rows}
    configs: dict[str, list[TrialConfig]] = {}
    for trial in plan_confirm(sweep, rows).trials if rows else ():
        configs.setdefault(arm_of[trial.arm], []).append(trial.config)
    store = RecordStore(results, sweep.name)
    return counts | {name: count_records(found, store.trial) for name, found in configs.items()}


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
