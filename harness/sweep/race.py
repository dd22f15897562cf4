"""The race: more seeds for each arm's most promising configurations, before one of them wins. Still sealed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.config.execution import Execution
from harness.engines.choice import EngineChoice, num_slots
from harness.errors import TrialError, UserError
from harness.launch.events import Done, Failed, TrialEvent
from harness.launch.launcher import Launcher, Tell, launch
from harness.launch.launchers import LauncherChoice, choose_launcher
from harness.launch.task import TrialTask
from harness.records.digests import begin_digests
from harness.records.frozen import FROZEN
from harness.records.schema import Summary
from harness.records.search import SearchPoint, SearchResult
from harness.records.store import RecordStore
from harness.records.trial_folder import TrialFolder
from harness.search.declaration import Sweep
from harness.search.tasks import search_folder, search_task
from harness.sweep.selection import Contender, choose_contenders, drop_losers

Hear = Callable[[TrialEvent], object]


@dataclass(frozen=True)
class Launch:
    """How a sweep is run: its results folder, its workers, engine and launcher, and what is called with each event.

    Attributes:
        choice: what the command asks for.
        executions: the engines of the searched arms, filled when their studies are opened.
        launcher: the one that fits `num_jobs` when None.
        retry_failed: train again what failed for good in the race, unless the winners are frozen, and in the confirm
            phase. The search keeps its failures: later trials were drawn knowing of them.
        at_end: the end of the whole sweep, for what need not be waited for before; None: nothing is put off.
    """

    results: Path
    num_jobs: int
    hear: Hear
    choice: EngineChoice = field(default_factory=EngineChoice)
    executions: dict[str, Execution] = field(default_factory=dict)
    launcher: LauncherChoice | None = None
    retry_failed: bool = False
    at_end: ExitStack | None = None

    def make_launcher(self, tell: Tell) -> Launcher:
        """New workers."""
        return (self.launcher or choose_launcher(None, self.num_jobs)).make(tell, num_slots(self.executions))


def run_race(sweep: Sweep, result: SearchResult, run: Launch) -> dict[str, list[Contender]]:
    """More seeds for each arm's best points; the contenders that are left, by arm.

    Raises:
        TrialError: an arm has no complete trial, or all that raced have failed, so nothing can be chosen.
    """
    objective, config = sweep.objectives[0], sweep.config
    racing: dict[str, list[Contender]] = {}
    for arm in sweep.searched:
        points = [point for point in result.points if point.arm == arm.name]
        chosen = choose_contenders(points, objective, config.confirm.rules, config.race.candidates)
        if not chosen:
            states = ", ".join(f"{point.number}: {point.reason or point.state}" for point in points)
            lost = f"{sweep.path}: arm {arm.name}: no trial of its search was completed ({states})"
            raise TrialError("error", lost)
        racing[arm.name] = [_contender(run.results, sweep, point) for point in chosen]
    for seed in config.race.seeds:
        racing = _race_round(sweep, racing, seed, run)
    return racing


def _contender(results: Path, sweep: Sweep, point: SearchPoint) -> Contender:
    runs = {}
    for seed, trial_id in zip(sweep.config.search.seeds, point.trial_ids, strict=True):
        runs[seed] = _valid_of(TrialFolder(search_folder(results, sweep.name, trial_id)))
    return Contender(point.number, point.params, runs)


def _valid_of(folder: TrialFolder) -> dict[str, float]:
    summary = folder.summary()
    if summary is None:
        raise UserError(f"{folder.place}: the record of a finished trial is missing; restore it, or delete the study")
    return summary.valid


def _race_round(
    sweep: Sweep, racing: Mapping[str, Sequence[Contender]], seed: int, run: Launch
) -> dict[str, list[Contender]]:
    """Train every contender that is left on one more seed; a contender whose training fails drops out."""
    # Winners that were told stand.
    retry = run.retry_failed and not (run.results / sweep.name / FROZEN).exists()
    tasks: dict[str, TrialTask] = {}
    ids: dict[tuple[str, int], str] = {}
    for arm in sweep.searched:
        for contender in racing[arm.name]:
            config, about = sweep.trial(arm, contender.params, seed), (contender.number, contender.params)
            task = search_task(sweep, arm, config, *about, run.results, run.executions)
            tasks[task.config.trial_id] = replace(task, retry_failed=retry)
            ids[arm.name, contender.number] = task.config.trial_id
    summaries = train_all(list(tasks.values()), run)
    left = {}
    for name, contenders in racing.items():
        extended = []
        for contender in contenders:
            summary = summaries.get(ids[name, contender.number])
            if summary is not None and summary.state == "complete":
                extended.append(replace(contender, raced={**contender.raced, seed: summary.valid}))
        if not extended:
            raise TrialError(
                "error",
                f"{sweep.path}: arm {name}: all settings in the race failed on seed {seed}; see search/; "
                "with --retry-failed they are trained again",
            )
        left[name] = drop_losers(extended, sweep.objectives[0], sweep.config.constraints)
    return left


def train_all(tasks: Sequence[TrialTask], run: Launch) -> dict[str, Summary]:
    """Train tasks that are not finished; every summary by trial id.

    Raises:
        UserError: a trial does not fit together.
        TrialError: one ended without a record (a full disk, say): what is trained does not decide without it.
    """
    summaries: dict[str, Summary] = {}
    failed: list[Failed] = []
    before: set[str] = set()  # those that have failed, long before perhaps, and are not tried again

    def tell(event: TrialEvent) -> None:
        if isinstance(event, Done) and event.summary.trial_id in before:
            event = replace(event, by_another=False)
        run.hear(event)
        if isinstance(event, Done):
            summaries[event.summary.trial_id] = event.summary
        elif isinstance(event, Failed):
            failed.append(event)

    pending = []
    for task in tasks:
        summary = TrialFolder(task.folder).summary()
        if summary is not None and summary.state == "complete":
            summaries[task.config.trial_id] = summary
        else:
            pending.append(task)
            if summary is not None and not task.must_train(summary):
                before.add(task.config.trial_id)
    if pending:
        begin_digests(RecordStore(run.results, pending[0].run.experiment), searching=True)
        with run.make_launcher(tell) as launcher:
            launch(launcher, pending)
    for event in failed:
        raise UserError(event.message) if event.user_error else TrialError("error", event.message)
    return summaries
