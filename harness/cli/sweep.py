"""The command `harness sweep`: search, freeze, race, confirm, table, figures."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.following import choose_tracker, following
from harness.cli.options import (
    RESULTS,
    Capture,
    Engine,
    Jobs,
    LauncherName,
    Overrides,
    Pack,
    Quiet,
    Results,
    Track,
    Wandb,
    file_argument,
)
from harness.cli.run import end_with, show_table

if TYPE_CHECKING:
    from harness.launch.run_experiment import RunReport
    from harness.records.search import SearchResult
    from harness.records.store import RecordStore
    from harness.search.declaration import Sweep
    from harness.sweep.race import Launch
    from harness.sweep.run_sweep import Frozen


def sweep(
    sweep: Annotated[Path, file_argument("sweep")],
    overrides: Overrides = None,
    jobs: Jobs = 1,
    results: Results = RESULTS,
    track: Track = None,
    wandb: Wandb = "auto",
    launcher: LauncherName = None,
    retry_failed: Annotated[
        bool,
        typer.Option(help="Also train again what failed for good in race and confirm; a search keeps its failures."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a long sweep.")] = False,
    engine: Engine = "auto",
    pack: Pack = None,
    capture: Capture = False,
    quiet: Quiet = False,
) -> None:
    """Tune every arm, confirm the winners, print the table. Arms get equal budgets, winners train on fresh seeds."""
    tracker = choose_tracker(track, wandb)
    from harness.api.inputs import add_user_code, user_file
    from harness.cli.progress import sweep_progress
    from harness.cli.views.plan import ask_before, print_plan
    from harness.engines.choice import EngineChoice
    from harness.launch.process_memory import watched_launch
    from harness.launch.work import launching_of, work_arguments
    from harness.search.sweep_files import load_sweep
    from harness.sweep.plan import describe_outdated, plan_sweep
    from harness.sweep.race import Launch
    from harness.sweep.under_way import under_way

    choice = EngineChoice(engine, pack, capture)
    loaded = load_sweep(user_file(sweep, "sweep"), overrides or [])
    work = work_arguments(sweep, overrides, results, engine, pack, capture, retry_failed=retry_failed)
    where = f"{loaded.path}: launcher"
    launching = launching_of(launcher, loaded.launcher, jobs, where, work, overrides=overrides or [])
    add_user_code(loaded.experiment.path)
    plan = plan_sweep(loaded, results, jobs, launching)
    is_left = plan.num_new > 0 or loaded.config.budget.seconds is not None
    print_plan(plan, quiet=quiet)
    if outdated := describe_outdated(loaded, results):
        print(outdated)
    ask_before(plan, yes)
    watching = watched_launch(results / loaded.name, jobs) if is_left else nullcontext()
    with under_way(loaded, results), following(results / loaded.name, tracker), watching as watch, ExitStack() as end:
        with sweep_progress(loaded, plan, quiet) as progress:
            launch = Launch(
                results, jobs, progress.hear, choice, launcher=launching, retry_failed=retry_failed, at_end=end
            )
            result, frozen = search_and_freeze(loaded, launch)
        report = confirm(loaded, result, frozen, launch, quiet)
    if watch is not None:
        print(f"peak memory: {'unknown on this system' if watch.peak is None else watch.peak.text}")
    end_with(report)


def search_and_freeze(sweep: Sweep, run: Launch) -> tuple[SearchResult, Frozen]:
    """Search, race, and freeze the winners; print what each phase found."""
    from harness.config.rows import RowId
    from harness.sweep.race import run_race
    from harness.sweep.run_sweep import freeze, run_search

    print(f"== Search: {sweep.name}", flush=True)
    result = run_search(sweep, run, lambda: tell_engines(run))
    if sweep.config.race.seeds:
        seeds = ", ".join(map(str, sweep.config.race.seeds))
        print(f"== Race: the best settings of each arm, trained again with other seeds ({seeds})", flush=True)
    racing = run_race(sweep, result, run)
    frozen = freeze(sweep, result, racing, run.results)
    print(f"== Winners: their settings are fixed from here on, in {run.results / sweep.name / 'frozen.json'}")
    for arm, winners in frozen.winners.items():
        for rule, winner in winners.items():
            settings = ", ".join(f"{key.rsplit('.', 1)[-1]} {value}" for key, value in winner.contender.params.items())
            print(f"{RowId(arm, (rule,)).name}: trial {winner.contender.number}: {settings}", flush=True)
    for text in frozen.edge_remarks(sweep):
        print(text, flush=True)
    return result, frozen


def tell_engines(run: Launch) -> None:
    """Print which engine trains the searched arms."""
    texts = {arm: execution.text for arm, execution in run.executions.items() if execution.engine != "plain"}
    for text in dict.fromkeys(texts.values()):
        print(f"{', '.join(arm for arm in texts if texts[arm] == text)}: {text}", flush=True)


def confirm(sweep: Sweep, result: SearchResult, frozen: Frozen, run: Launch, quiet: bool) -> RunReport:
    """Train the winners on fresh seeds, show the table, draw the figures; returns how it went."""
    folder = run.results / sweep.name / "figures"

    def draw() -> int:
        from harness.figures.sweep_figures import draw_sweep  # matplotlib is loaded when there is something to draw

        return len(draw_sweep(result, folder))

    drawing: Future[int] | None = None

    def draw_meanwhile() -> None:
        nonlocal drawing
        if run.num_jobs > 1:  # while other processes train, this one has nothing else to do
            drawing = ThreadPoolExecutor(1).submit(draw)

    store, report = train_confirm(sweep, result, frozen, run, quiet, draw_meanwhile)
    faults = show_table(store)
    print(f"{draw() if drawing is None else drawing.result()} figures in {folder}")
    report.failures += faults
    return report


def train_confirm(
    sweep: Sweep,
    result: SearchResult,
    frozen: Frozen,
    run: Launch,
    quiet: bool,
    begins: Callable[[], object] = lambda: None,
) -> tuple[RecordStore, RunReport]:
    """Train the winners on fresh seeds.

    Args:
        begins: called when all is checked, and training begins.

    Raises:
        TrialError: a launch of another plan has written its own winners meanwhile.
    """
    from harness.cli.progress import run_progress
    from harness.launch.run_experiment import plan_run, preflight, run_experiment
    from harness.sweep.run_sweep import confirm_executions, confirm_experiment
    from harness.sweep.under_way import check_is_last

    experiment = confirm_experiment(sweep, result, frozen)
    executions = confirm_executions(sweep, frozen, run)
    plan = plan_run(experiment, experiment.trials, run.results, retry_failed=run.retry_failed, executions=executions)
    print(
        f"== Confirm: the winners train on fresh seeds; {len(plan.reused)} trials are finished, "
        f"{len(plan.pending)} to train",
        flush=True,
    )
    preflight(plan, launching=run.launcher)
    begins()
    with run_progress(plan.pending, quiet) as progress:
        report = run_experiment(plan, run.num_jobs, progress.hear, run.launcher)
    check_is_last(plan)
    return plan.store, report
