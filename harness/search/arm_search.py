"""Search one arm: what its trials are, which have ended and how, all of it from their records.

`mirror.py` draws the settings of trial n from the results of earlier trials, so its record's place is known; where that
record is final, the trial has ended, whoever trained it. What was found out is kept in `points.py`. Who trains a trial
holds the lease of its record; nothing else is claimed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

from optuna.trial import TrialState

from harness.config.execution import PLAIN, Execution
from harness.config.trial import TrialConfig
from harness.errors import UserError
from harness.launch.task import TrialTask
from harness.records.points import EndedTrial, Points
from harness.records.schema import Summary
from harness.records.search import PointState, SearchPoint, Value
from harness.records.trial_folder import TrialFolder
from harness.search import samplers, space
from harness.search.declaration import Arm, Sweep
from harness.search.mirror import Judge, Mirror, Result
from harness.search.tasks import search_folder, search_task
from harness.seeding import derive_seed

STATES: Mapping[PointState, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
NO_EXECUTIONS: Mapping[str, Execution] = MappingProxyType({})
REMEMBERS_NOTHING = ("random", "tpe", "gp")  # samplers that know trials by their settings and results alone


@dataclass
class Flight:
    """A trial that may be trained: its trainings, one a search seed, one after another.

    Attributes:
        submitted: whether this process's launcher has the training that is due.
    """

    number: int
    drawn: dict[str, Any]
    values: dict[str, Value]
    tasks: tuple[TrialTask, ...]
    judge: Judge | None
    steps: dict[int, float] = field(default_factory=dict)
    pruned_at: int | None = None
    summaries: list[Summary] = field(default_factory=list)
    submitted: bool = False

    @property
    def task(self) -> TrialTask:
        """The training that is due."""
        return self.tasks[len(self.summaries)]

    @property
    def trial_id(self) -> str:
        """The id of the training that is due."""
        return self.task.run.trial_id

    @property
    def config(self) -> TrialConfig:
        """The training that is due."""
        return self.task.config


class ArmSearch:
    """One arm's search: what has ended, its mirror, and the trials that are open.

    Args:
        executions: arm -> the engine that trains its trials, the plain loop where there is none: of all arms, since an
            arm may take weights from another one's trial, which has one engine whoever asks for it.
        known: trials that have ended, by what else tells of them (a published search, an older database).
    """

    def __init__(
        self,
        sweep: Sweep,
        arm: Arm,
        results: Path,
        executions: Mapping[str, Execution] = NO_EXECUTIONS,
        known: Sequence[EndedTrial] = (),
    ) -> None:
        self.sweep, self.arm, self.results, self.executions = sweep, arm, results, executions
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
            self._drawn_before,
        )
        self.points_on_disk = Points(results / sweep.name, arm.name)
        self.ended = {ended.number: ended for ended in known} | self._read_points()
        self._num_ended = 0  # trials 0 .. n - 1 have all ended: a long search is not gone through at each draw
        self._spent = [0.0]  # seconds of training of the first 0, 1, ... of them
        self._num_checked = 0
        self._count()
        self._num_read = self._num_ended  # what had ended when the search was opened

    def _read_points(self) -> dict[int, EndedTrial]:
        """The points that follow from records: one whose records were taken away is trained again."""
        found = self.points_on_disk.read_all()
        for number, ended in list(found.items()):
            folders = [search_folder(self.results, self.sweep.name, trial_id) for trial_id in ended.recorded]
            if not all(TrialFolder(folder).is_finished() for folder in folders):
                self.points_on_disk.remove(number)
                del found[number]
        return found

    def refresh(self) -> None:
        """Look at the records of the trials that are open, until no more of them turn out to have ended."""
        while any([self._look(number) for number in self._open_numbers()]):
            pass

    def _count(self) -> None:
        while self._num_ended in self.ended:
            self._spent.append(self._spent[-1] + self.ended[self._num_ended].seconds)
            self._num_ended += 1

    @property
    def execution(self) -> Execution:
        """The engine that trains the arm's trials."""
        return self.executions.get(self.arm.name, PLAIN)

    @property
    def num_points(self) -> int:
        """How many trials of the budget have ended: of `points`, without making them."""
        return sum(number in self.ended for number in range(self.num_planned))

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

    def may_draw(self, number: int) -> bool:
        """Whether all trials that trial `number` is drawn from have ended."""
        return self._num_ended >= len(self.mirror.history(number))

    def _open_numbers(self) -> list[int]:
        """The trials that have not ended and may be drawn: at most `search.lag`."""
        last = min(self.num_planned, self._num_ended + self.sweep.config.search.lag)
        return [n for n in range(self._num_ended, last) if n not in self.ended and self.may_draw(n)]

    def due(self) -> list[Flight]:
        """The open trials that this process's launcher has not got, by number; `refresh` finds them."""
        return [flight for _, flight in sorted(self.flights.items()) if not flight.submitted]

    def _look(self, number: int) -> bool:
        """Whether an open trial has ended, by its point or else its records; it is drawn for that, if it was not."""
        point = self.points_on_disk.read(number)
        if point is not None:
            self._end(point)
            return True
        flight = self.flights.get(number) or self.start(number)
        return not flight.submitted and self._advance(flight)

    def _advance(self, flight: Flight) -> bool:
        """Take those trainings of a trial that have a final record; whether it has ended."""
        while True:
            folder, num_landed = TrialFolder(flight.task.folder), len(flight.summaries)
            summary = folder.summary()
            if summary is None or flight.task.must_train(summary):
                return False
            if self.land(flight, summary, folder):
                return True
            if len(flight.summaries) == num_landed:
                return False

    def start(self, number: int) -> Flight:
        """Draw a trial's settings."""
        drawn = self.mirror.ask(number)
        for earlier in range(self._num_checked, number):
            if earlier in self.ended:
                self._check_same(self.ended[earlier])
        self._num_checked = max(self._num_checked, self._num_ended)
        values = self._settings(drawn)
        configs = [self.sweep.trial(self.arm, values, seed) for seed in self.sweep.config.search.seeds]
        about = (number, values, self.results, self.executions)
        tasks = tuple(search_task(self.sweep, self.arm, config, *about) for config in configs)
        judge = self.mirror.judge(number) if self.mirror.prunes else None
        self.flights[number] = Flight(number, drawn, values, tasks, judge)
        return self.flights[number]

    def _settings(self, drawn: Mapping[str, Any]) -> dict[str, Value]:
        return {key: space.setting(p, drawn[key], self.sweep.grid) for key, p in self.arm.space.items()}

    def _drawn_before(self, number: int) -> Mapping[str, Any] | None:
        """What a trial drew that had ended when the search was opened; the last of them is drawn again, as a check."""
        if self.sweep.config.sampler.name not in REMEMBERS_NOTHING or number >= self._num_read - 1:
            return None
        return self.ended[number].drawn or None

    def _check_same(self, ended: EndedTrial) -> None:
        drawn = self.mirror.ask(ended.number)
        if (ended.drawn and ended.drawn != drawn) or ended.params != self._settings(drawn):
            raise UserError(
                f"{self.sweep.path}: arm {self.arm.name}: trial {ended.number} is stored with other settings than "
                "are drawn now (another version of optuna?); finish the study with the version it was begun with, "
                "or give the sweep another name"
            )

    def _result(self, number: int) -> Result:
        ended = self.ended[number]
        values = ended.values if ended.state == "complete" else None
        return Result(STATES[ended.state], values, ended.violations, ended.steps)

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
            _train_on(folder)  # the judge of a trial with the same settings stopped it; this one goes on
            return False
        flight.summaries.append(summary)
        if summary.state == "complete":
            self._score_seed(flight, summary)
        if flight.pruned_at is not None:
            self._tell(flight, "pruned")
        elif len(flight.summaries) == len(flight.tasks):
            self._complete(flight)
        return flight.number in self.ended

    def _score_seed(self, flight: Flight, summary: Summary) -> None:
        """Wilcoxon's step: one seed's final score."""
        if self.sweep.config.pruner.name == "wilcoxon":
            self._step(flight, len(flight.summaries) - 1, summary.valid)

    def _complete(self, flight: Flight) -> None:
        valid = mean_valid(flight.summaries)
        violations = tuple(constraint.violation(valid) for constraint in self.sweep.config.constraints)
        values = tuple(valid[objective.metric] for objective in self.sweep.objectives)
        self._tell(flight, "complete", values=values, violations=violations)

    def fail(self, flight: Flight, reason: str, message: str) -> None:
        """End a trial as failed, with its reason."""
        self._tell(flight, "failed", reason=reason, message=message)

    def _tell(self, flight: Flight, state: PointState, **more: Any) -> None:
        done = flight.summaries
        ended = EndedTrial(
            arm=self.arm.name,
            number=flight.number,
            state=state,
            params=flight.values,
            valid=mean_valid(done),
            trial_ids=tuple(task.run.trial_id for task in flight.tasks),
            epochs=sum(summary.epochs_run for summary in done),
            seconds=sum(summary.costs.get("seconds", 0.0) for summary in done),
            drawn=flight.drawn,
            steps=flight.steps,
            num_records=len(done) + (state == "failed"),
            **more,
        )
        self._end(self.points_on_disk.write(ended))

    def _end(self, ended: EndedTrial) -> None:
        self.ended[ended.number] = ended
        self.flights.pop(ended.number, None)
        self._count()

    def points(self) -> list[SearchPoint]:
        """The arm's trials that have ended, for whoever looks at them."""
        return [self.ended[number].point for number in range(self.num_planned) if number in self.ended]


def _train_on(folder: TrialFolder) -> None:
    """Let a pruned trial train again; where another process does so already, its record is waited for."""
    with folder.lock(wait=False) as held:
        summary = folder.summary() if held else None
        if summary is not None and summary.state == "pruned":
            folder.clear()


def mean_valid(summaries: Sequence[Summary]) -> dict[str, float]:
    """Validation metrics, mean over the trainings that have them all."""
    if not summaries:
        return {}
    names = [name for name in summaries[0].valid if all(name in summary.valid for summary in summaries)]
    return {name: fmean(summary.valid[name] for summary in summaries) for name in names}
