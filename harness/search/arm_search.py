"""Search one arm: draw the settings of a claimed trial, train it on each search seed, store how it ended.

`mirror.py` draws the settings, from the results of earlier trials only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from harness.config.execution import PLAIN, Execution
from harness.config.trial import TrialConfig
from harness.errors import UserError
from harness.launch.task import TrialTask
from harness.records.schema import Summary
from harness.records.search import PointState, SearchPoint, Value
from harness.records.store import TrialFolder
from harness.records.trial_run import TrialRun
from harness.search import samplers, space
from harness.search.declaration import Arm, Sweep
from harness.search.mirror import Judge, Mirror, Result
from harness.search.storage import StudyStore
from harness.seeding import derive_seed

STATES: dict[TrialState, PointState] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclass
class Flight:
    """A claimed trial: its trainings, one a search seed, one after another."""

    number: int
    stored_id: int
    values: dict[str, Value]
    configs: tuple[TrialConfig, ...]
    judge: Judge | None
    steps: dict[int, float] = field(default_factory=dict)
    pruned_at: int | None = None
    summaries: list[Summary] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    submitted: bool = False

    def __post_init__(self) -> None:
        self.trial_ids = tuple(config.trial_id for config in self.configs)  # hashed once

    @property
    def config(self) -> TrialConfig:
        """The training that is due."""
        return self.configs[len(self.summaries)]

    @property
    def trial_id(self) -> str:
        """The id of the training that is due."""
        return self.trial_ids[len(self.summaries)]


class ArmSearch:
    """One arm's search: its storage, its mirror, and the trials that this process has claimed.

    Args:
        execution: the engine that trains its trials.
    """

    def __init__(self, sweep: Sweep, arm: Arm, store: StudyStore, execution: Execution = PLAIN) -> None:
        self.sweep, self.arm, self.store, self.execution = sweep, arm, store, execution
        self.flights: dict[int, Flight] = {}
        grid = {key: space.grid_values(parameter) for key, parameter in arm.space.items()}
        config = sweep.config

        def make_sampler(number: int) -> Any:
            # A quasi-random sequence is one sequence: its seed stays, and its position comes from the trials before.
            names = () if config.sampler.name == "qmc" else (number,)
            seed = derive_seed(config.search.seed, "sampler", arm.name, *names) % 2**32
            return samplers.make_sampler(config.sampler, seed, grid)

        self.mirror = Mirror(
            f"{sweep.name}/{arm.name}",
            [objective.direction for objective in sweep.objectives],
            space.distributions(arm.space, sweep.grid),
            make_sampler,
            lambda: samplers.make_pruner(config.pruner),
            config.search.lag,
            self._result,
        )
        self.trials: list[FrozenTrial] = []
        self._num_ended = 0  # trials 0 .. n - 1 have all ended: a long study is not gone through at each draw
        self._spent = [0.0]  # seconds of training of the first 0, 1, ... of them
        self.refresh()

    def refresh(self) -> None:
        """Read the storage."""
        self.trials = self.store.trials()
        while self._num_ended < len(self.trials) and self.trials[self._num_ended].state.is_finished():
            seconds = self.trials[self._num_ended].user_attrs.get("seconds", 0.0)
            self._spent.append(self._spent[-1] + seconds)
            self._num_ended += 1

    def _result(self, number: int) -> Result:
        trial = self.trials[number]
        values = tuple(trial.values) if trial.state == TrialState.COMPLETE else None
        violations = tuple(trial.user_attrs.get("violations", ()))
        return Result(trial.state, values, violations, trial.intermediate_values)

    @property
    def num_planned(self) -> int:
        """How many trials the budget allows, as far as the finished ones tell."""
        limit = self.sweep.config.budget.trials
        if limit is not None:
            return limit
        seconds, lag = float(self.sweep.config.budget.seconds or 0), self.sweep.config.search.lag
        # The trial that used up the budget, or the first that has not ended; the `lag` after it were drawn without
        # knowing that the budget would run out.
        return min(bisect_left(self._spent, seconds, lo=1) - 1, self._num_ended) + lag

    def finished(self) -> bool:
        """Whether every trial of the budget has ended."""
        return self._num_ended >= self.num_planned

    def next_number(self) -> int | None:
        """The lowest number that nobody has claimed; None when the budget is used up."""
        for number in range(self._num_ended, self.num_planned):
            if number >= len(self.trials) or self.trials[number].state == TrialState.WAITING:
                return number
        return None

    def orphans(self) -> list[FrozenTrial]:
        """Running trials of dead processes; the storage is asked only where somebody else's are running."""
        running = [trial for trial in self.trials[self._num_ended :] if trial.state == TrialState.RUNNING]
        return [] if all(self.store.owns(trial) for trial in running) else self.store.orphans()

    def claim(self) -> FrozenTrial | None:
        """Claim the next trial; None when other processes have claimed the rest of the budget."""
        claimed = self.store.claim(self.num_planned)
        self.trials = self.store.known()
        if claimed is None or claimed.number >= len(self.trials):
            self.refresh()  # others have claimed meanwhile
        return claimed

    def may_draw(self, number: int) -> bool:
        """Whether all trials that trial `number` is drawn from have ended."""
        return self._num_ended >= len(self.mirror.history(number))

    def start(self, trial: FrozenTrial) -> Flight:
        """Draw a claimed trial's settings and write them down."""
        drawn = self.mirror.ask(trial.number)
        self._check_same(trial, drawn)
        values = {key: space.setting(p, drawn[key], self.sweep.grid) for key, p in self.arm.space.items()}
        configs = tuple(self.sweep.trial(self.arm, values, seed) for seed in self.sweep.config.search.seeds)
        judge = self.mirror.judge(trial.number) if self.mirror.prunes else None
        flight = Flight(trial.number, trial._trial_id, values, configs, judge)
        flight.failures = list(trial.user_attrs.get("failures", ()))
        attrs = {"settings": values, "trial_ids": list(flight.trial_ids)}
        self.store.set_params(trial._trial_id, drawn, self.mirror.distributions, attrs)
        self.flights[trial.number] = flight
        return flight

    def _check_same(self, trial: FrozenTrial, drawn: Mapping[str, Any]) -> None:
        if trial.params and dict(trial.params) != dict(drawn):
            raise UserError(
                f"{self.sweep.path}: arm {self.arm.name}: trial {trial.number} is stored with other settings than "
                "are drawn now (another version of optuna?); finish the study with the version it was begun with, "
                "or give the sweep another name"
            )

    def task(self, flight: Flight, results: Path) -> TrialTask:
        """The training that is due of a trial, for the launcher."""
        return search_task(self.sweep, self.arm, flight.config, flight.number, flight.values, results, self.execution)

    def report(self, flight: Flight, entry: Mapping[str, Any]) -> bool:
        """Take an epoch's metrics; returns whether to prune."""
        if len(self.sweep.objectives) > 1:
            return False
        if self.sweep.config.pruner.name == "wilcoxon":
            return False  # it compares seeds, not epochs
        step = len(flight.summaries) * flight.config.loop.epochs + int(entry["epoch"])
        return self._step(flight, step, entry["metrics"])

    def _step(self, flight: Flight, step: int, valid: Mapping[str, float]) -> bool:
        """Take a step's metrics, once; returns whether to prune at it. Steps after the one that prunes do not count.

        A pruner sees the objective alone, and what keeps a constraint mostly pays for it there. So a trial that meets
        every constraint at this step goes on, whatever the pruner says: else the search would leave nothing feasible
        to choose from.
        """
        if flight.pruned_at is None and step not in flight.steps:
            value = valid[self.sweep.objectives[0].metric]
            flight.steps[step] = value
            self.store.report(flight.stored_id, step, value)
            if flight.judge is not None and flight.judge.report(step, value) and not self._keeps_constraints(valid):
                flight.pruned_at = step
        return flight.pruned_at == step

    def _keeps_constraints(self, valid: Mapping[str, float]) -> bool:
        """Whether there are constraints, and all of them hold."""
        constraints = self.sweep.config.constraints
        return bool(constraints) and all(constraint.violation(valid) <= 0 for constraint in constraints)

    def land(self, flight: Flight, summary: Summary, folder: TrialFolder) -> bool:
        """Take a finished training; returns whether the trial has ended (otherwise a training is due).

        The record may be that of a duplicate, which another arm or number trained: this trial's own judge goes through
        its log, so that the outcome is the same as if the trial had been trained for itself.
        """
        for entry in folder.read_log():
            self.report(flight, entry)
        if summary.state == "failed":
            self.fail(flight, summary.reason or "error", summary.message or "")
            return True
        if summary.state == "pruned" and flight.pruned_at is None:
            folder.clear()  # the judge of a trial with the same settings stopped it; this one goes on
            return False
        flight.summaries.append(summary)
        if summary.state == "complete":
            self._score_seed(flight, summary)
        if flight.pruned_at is not None:
            self._tell(flight, TrialState.PRUNED, None, {})
            return True
        if len(flight.summaries) < len(flight.configs):
            return False
        self._complete(flight)
        return True

    def _score_seed(self, flight: Flight, summary: Summary) -> None:
        """Wilcoxon's step: one seed's final score."""
        if self.sweep.config.pruner.name == "wilcoxon":
            self._step(flight, len(flight.summaries) - 1, summary.valid)

    def _complete(self, flight: Flight) -> None:
        valid = mean_valid(flight.summaries)
        violations = [constraint.violation(valid) for constraint in self.sweep.config.constraints]
        values = [valid[objective.metric] for objective in self.sweep.objectives]
        self._tell(flight, TrialState.COMPLETE, values, {"violations": violations})

    def fail(self, flight: Flight, reason: str, message: str) -> None:
        """End a trial as failed, with its reason."""
        self._tell(flight, TrialState.FAIL, None, {"reason": reason, "message": message})

    def _tell(
        self, flight: Flight, state: TrialState, values: Sequence[float] | None, attrs: Mapping[str, Any]
    ) -> None:
        done = flight.summaries
        costs = {
            "valid": mean_valid(done),
            "epochs": sum(summary.epochs_run for summary in done),
            "seconds": sum(summary.costs.get("seconds", 0.0) for summary in done),
        }
        self.store.tell(flight.stored_id, state, values, {**attrs, **costs})
        del self.flights[flight.number]

    def points(self) -> list[SearchPoint]:
        """The arm's trials, for whoever looks at them."""
        return [point_of(self.arm.name, trial) for trial in self.trials[: self.num_planned]]


def point_of(arm: str, trial: FrozenTrial) -> SearchPoint:
    """A stored trial as a point."""
    attrs = trial.user_attrs
    return SearchPoint(
        arm=arm,
        number=trial.number,
        state=STATES[trial.state],
        params=attrs.get("settings", {}),
        values=tuple(trial.values) if trial.state == TrialState.COMPLETE else (),
        valid=attrs.get("valid", {}),
        violations=tuple(attrs.get("violations", ())),
        trial_ids=tuple(attrs.get("trial_ids", ())),
        reason=attrs.get("reason"),
        epochs=attrs.get("epochs", 0),
        seconds=attrs.get("seconds", 0.0),
    )


def mean_valid(summaries: Sequence[Summary]) -> dict[str, float]:
    """Validation metrics, mean over the trainings that have them all."""
    if not summaries:
        return {}
    names = [name for name in summaries[0].valid if all(name in summary.valid for summary in summaries)]
    return {name: fmean(summary.valid[name] for summary in summaries) for name in names}


def search_task(
    sweep: Sweep,
    arm: Arm,
    config: TrialConfig,
    number: int,
    values: Mapping[str, Value],
    results: Path,
    execution: Execution,
) -> TrialTask:
    """One training of trial `number` of a search, for a launcher; the race uses the same records."""
    params = dict(values)
    run = TrialRun(config.trial_id, sweep.name, arm.name, config.seed, "search", number=number, params=params)
    folder = search_folder(results, sweep.name, run.trial_id)
    return TrialTask(config, run, folder, execution=execution, needs=part_tasks(sweep, config, results))


def part_tasks(sweep: Sweep, config: TrialConfig, results: Path) -> tuple[TrialTask, ...]:
    """What a trial of a search takes weights from; the worker that trains it trains these before, unless it finds them.

    Their records lie among those of the search, since no winner depends on a seed of the search.
    """
    made: list[TrialTask] = []
    for part in sweep.needs_of(config):
        run = TrialRun(part.config.trial_id, sweep.name, part.arm, part.seed, "part")
        folder = search_folder(results, sweep.name, run.trial_id)
        made.append(TrialTask(part.config, run, folder, needs=tuple(made), gives=True))
    return tuple(made)


def search_folder(results: Path, sweep: str, trial_id: str) -> Path:
    """Where a search trial's record goes: apart from the confirm phase's records."""
    return results / sweep / "search" / trial_id
