"""`harness.run` and `harness.run_sweep`: train what is missing, and write the same files as the commands do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.inputs import Overrides, Source, add_user_code, as_arguments, as_collection, check_jobs, read_source
from harness.api.results import ResultTable, load_records, table
from harness.config.experiment import Experiment, PlannedTrial, make_experiment, select_trials
from harness.config.trial import TrialConfig
from harness.errors import TrialError
from harness.records.store import RecordStore

if TYPE_CHECKING:
    import pandas as pd

    from harness.engines.choice import EngineChoice
    from harness.launch.events import TrialEvent
    from harness.launch.launchers import LauncherChoice
    from harness.launch.run_experiment import RunPlan, RunReport

Tell = Callable[[str], object]
Launching = str | Mapping[str, Any] | None


@dataclass(frozen=True)
class RunResult:
    """What a launch left.

    Attributes:
        name: the experiment's name, under which its records are found. Overrides give it a suffix of its own, so that
            changed trials never mix with others.
        results: the folder that has `NAME/`.
        num_trained: trials that this launch trained (of a sweep: in its confirm phase).
        num_reused: trials that were finished before.
        failures: a line for each trial that has no numbers: `ARM/seedN: failed: nan: ...`.
    """

    name: str
    results: Path
    num_trained: int
    num_reused: int
    failures: tuple[str, ...] = ()

    def table(self) -> ResultTable:
        """The table of this experiment; see `harness.table`."""
        return table(self.name, results=self.results)

    def records(self) -> pd.DataFrame:
        """The records of this experiment; see `harness.load_records`."""
        return load_records(self.name, results=self.results)


@dataclass(frozen=True)
class SweepResult(RunResult):
    """What a sweep left.

    Attributes:
        winners: arm -> selection rule -> the settings that won, by dotted key; arms that search nothing are not in it.
        figures: the files of the figures, as PNG and SVG.
    """

    winners: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None
    figures: tuple[Path, ...] = ()


def run(
    experiment: Source,
    overrides: Overrides | None = None,
    *,
    arms: Collection[str] = (),
    seeds: Collection[int] = (),
    jobs: int = 1,
    results: str | Path = "results",
    engine: str = "plain",
    pack: int | None = None,
    capture: bool = False,
    launcher: Launching = None,
    retry_failed: bool = False,
    check: bool = True,
    tell: Tell | None = None,
) -> RunResult:
    """Train an experiment's missing trials (arms x seeds), as `harness run` does; finished ones are reused.

    Nothing is sent to Weights & Biases; `harness sync NAME` sends the records there afterwards.

    Args:
        experiment: a file (YAML), the name of one that comes with the project, or its settings as a mapping.
        overrides: dotted settings, as `{"optim.lr": 3e-4}` or `["optim.lr=3e-4"]`.
        arms, seeds: train these alone; all of them by default.
        jobs: worker processes, each with one trial at a time. With 1 everything happens in this process. With more, a
            script must call this under `if __name__ == "__main__":`; a notebook need not.
        results: the folder of results, with one folder an experiment.
        engine: `plain` (the reference loop), `cut`, `packed`, or `auto` (the fastest that can train a trial).
        pack: the most trials that are trained in one step, with `packed` or `auto`.
        capture: on a GPU, replay the steps of packs as CUDA graphs; this has never run on one.
        launcher: where the trials run, by name or as a mapping of `name` and options; by default what the file says,
            or else what fits `jobs`.
        retry_failed: train trials again that failed before, too.
        check: raise when a trial failed. With False the failures are in the result.
        tell: called with a line for each trial that ends; `print` shows the progress.

    Returns:
        Where the records are, and how the launch went.

    Raises:
        UserError: an input is wrong; nothing was trained.
        TrialError: a trial failed; the others were trained.

    Example:
        >>> done = harness.run("text_strategies", {"loop.epochs": 2}, seeds=[0, 1], results="mine", tell=print)
        >>> done.table().cell("residual_add", "target_macro_f1").value
        >>> print(done.table())
    """
    from harness.engines.choice import EngineChoice
    from harness.launch.work import launching_of, work_arguments

    check_jobs(jobs)
    arms, seeds = as_collection(arms, "arms"), as_collection(seeds, "seeds")
    content, path = read_source(experiment, "experiment")
    changes = as_arguments(overrides)
    loaded = make_experiment(content, path, changes)
    trials = select_trials(loaded, arms, seeds)
    choice = EngineChoice(engine, pack, capture)
    work = work_arguments(
        *(experiment, changes, results, engine, pack, capture), arm=arms, seed=seeds, retry_failed=retry_failed
    )
    where = f"{path}: launcher"
    launching = launching_of(launcher, loaded.config.launcher, jobs, where, work, overrides=changes, is_command=False)
    plan = plan_launch(loaded, trials, Path(results), choice, retry_failed=retry_failed, launching=launching)
    report = train(plan, jobs, tell, launching)
    refuse_failures(report.failures, check)
    return RunResult(loaded.name, Path(results), report.num_trained, report.num_reused, tuple(report.failures))


def run_sweep(
    sweep: Source,
    overrides: Overrides | None = None,
    *,
    jobs: int = 1,
    results: str | Path = "results",
    engine: str = "auto",
    pack: int | None = None,
    capture: bool = False,
    retry_failed: bool = False,
    launcher: Launching = None,
    check: bool = True,
    tell: Tell | None = None,
) -> SweepResult:
    """Search every arm with the same budget, freeze the winners, confirm them on fresh seeds, as `harness sweep` does.

    A sweep that was stopped goes on; one that is finished trains nothing. It starts without asking how long it may
    take: `harness plan` tells beforehand.

    Args:
        sweep: a file (YAML), the name of one that comes with the project, or its settings as a mapping. The experiment
            that it names is looked for beside the file, or in the current folder.
        overrides, jobs, results, engine, pack, capture, launcher, check, tell: as for `harness.run`.
        retry_failed: train again what failed before in race and confirm; a search keeps its failures.

    Returns:
        Where the records are, the winning settings of each arm, and the figures.

    Raises:
        UserError: an input is wrong; nothing was trained.
        TrialError: a trial of the confirm phase failed. A failed trial of the search is a result, and no error.

    Example:
        >>> done = harness.run_sweep("quickstart", results="mine", tell=print)
        >>> done.winners["residual_add"]["best"]
        >>> print(done.table())
    """
    from harness.engines.choice import EngineChoice
    from harness.figures.sweep_figures import draw_sweep
    from harness.launch.process_memory import watched_launch
    from harness.launch.run_experiment import plan_run
    from harness.launch.work import launching_of, work_arguments
    from harness.search.preflight import preflight_sweep
    from harness.search.sweep_files import make_sweep
    from harness.sweep.race import Launch, run_race
    from harness.sweep.run_sweep import confirm_executions, confirm_experiment, freeze, run_search
    from harness.sweep.under_way import check_is_last, under_way

    check_jobs(jobs)
    content, path = read_source(sweep, "sweep")
    changes = as_arguments(overrides)
    loaded = make_sweep(content, path, changes)
    add_user_code(loaded.experiment.path)
    RecordStore(Path(results), loaded.name).check_place()
    work = work_arguments(sweep, changes, results, engine, pack, capture, retry_failed=retry_failed)
    where = f"{path}: launcher"
    launching = launching_of(launcher, loaded.launcher, jobs, where, work, overrides=changes, is_command=False)
    preflight_sweep(loaded, launching=launching)
    choice = EngineChoice(engine, pack, capture)
    with under_way(loaded, Path(results)), watched_launch(Path(results) / loaded.name, jobs), ExitStack() as end:
        hear = _hear(tell)
        launch = Launch(Path(results), jobs, hear, choice, launcher=launching, retry_failed=retry_failed, at_end=end)
        found = run_search(loaded, launch)
        frozen = freeze(loaded, found, run_race(loaded, found, launch), launch.results)
        experiment = confirm_experiment(loaded, found, frozen)
        executions = confirm_executions(loaded, frozen, launch)
        plan = plan_run(experiment, experiment.trials, launch.results, retry_failed=retry_failed, executions=executions)
        report = train(plan, jobs, tell, launching)
        check_is_last(plan)
    figures = draw_sweep(found, plan.store.path / "figures")
    refuse_failures(report.failures, check)
    winners = {
        arm: {rule: dict(winner.contender.params) for rule, winner in rules.items()}
        for arm, rules in frozen.winners.items()
    }
    counts = (report.num_trained, report.num_reused, tuple(report.failures))
    return SweepResult(loaded.name, launch.results, *counts, winners=winners, figures=tuple(figures))


def plan_launch(
    experiment: Experiment,
    trials: Sequence[PlannedTrial],
    results: Path,
    choice: EngineChoice,
    *,
    retry_failed: bool = False,
    launching: LauncherChoice | None = None,
) -> RunPlan:
    """Choose each arm's engine, and find out what has to be trained.

    Args:
        launching: where its workers train elsewhere, they choose the engines, on their machines.

    Raises:
        UserError: the arms were begun with another engine, or a config does not fit; or the table could not be made.
    """
    from harness.engines.choice import experiment_executions
    from harness.launch.run_experiment import plan_run
    from harness.tables.planned import check_experiment_table

    check_experiment_table(experiment)
    if launching is not None and not launching.trains:
        return plan_run(experiment, trials, results, retry_failed=retry_failed)
    configs: dict[str, list[TrialConfig]] = {}
    for trial in (*trials, *experiment.parts):
        configs.setdefault(trial.arm, []).append(trial.config)
    folder = results / experiment.name
    began = bool(RecordStore(results, experiment.name).finished())
    executions = experiment_executions(folder, configs, choice, began)
    return plan_run(experiment, trials, results, retry_failed=retry_failed, executions=executions)


def train(plan: RunPlan, num_jobs: int, tell: Tell | None, launcher: LauncherChoice | None = None) -> RunReport:
    """Check and train what is missing; keep the table beside the records, or tell why there is none."""
    from harness.launch.run_experiment import preflight, run_experiment
    from harness.tables.keep import keep_if_possible

    if plan.outdated and tell is not None:
        tell(plan.outdated)
    preflight(plan, launching=launcher)
    report = run_experiment(plan, num_jobs, _hear(tell), launcher)
    kept = keep_if_possible(plan.store)
    if kept.reason is not None and tell is not None:
        tell(kept.reason)
    return report


def refuse_failures(failures: Sequence[str], check: bool) -> None:
    """Raise when a trial failed, if that is wanted.

    Raises:
        TrialError: the first failure, and how many more there are.
    """
    if check and failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise TrialError("error", f"{failures[0]}{more}")


def _hear(tell: Tell | None) -> Callable[[TrialEvent], None]:
    """A listener that tells a line for each trial that has ended."""
    from harness.launch.events import Done, Failed

    def hear(event: TrialEvent) -> None:
        if tell is None:
            return
        if isinstance(event, Done):
            tell(f"{event.task.title}: {event.summary.state.value}")
        elif isinstance(event, Failed):
            tell(f"{event.task.title}: failed: {event.message}")

    return hear
