"""The command `harness run`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.errors import print_error
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
    RetryFailed,
    Track,
    Wandb,
    file_argument,
)

if TYPE_CHECKING:
    from harness.launch.run_experiment import RunReport
    from harness.records.store import RecordStore


def run(
    experiment: Annotated[Path, file_argument("experiment")],
    overrides: Overrides = None,
    arm: Annotated[list[str] | None, typer.Option(help="Train only this arm; repeat the option for more.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Train only this seed; repeat the option for more.")] = None,
    jobs: Jobs = 1,
    results: Results = RESULTS,
    track: Track = None,
    wandb: Wandb = "auto",
    launcher: LauncherName = None,
    retry_failed: RetryFailed = False,
    engine: Engine = "plain",
    pack: Pack = None,
    capture: Capture = False,
    quiet: Quiet = False,
) -> None:
    """Train an experiment (arms x seeds) and print its table. Finished trials are reused."""
    tracker = choose_tracker(track, wandb)
    from harness.api.inputs import user_file
    from harness.api.launches import plan_launch
    from harness.cli.progress import run_progress
    from harness.config.experiment import load_experiment, select_trials
    from harness.engines.choice import EngineChoice
    from harness.launch.run_experiment import preflight, run_experiment
    from harness.launch.work import launching_of, work_arguments

    loaded = load_experiment(user_file(experiment, "experiment"), overrides or [])
    trials = select_trials(loaded, arm or [], seed or [])
    choice = EngineChoice(engine, pack, capture)
    work = work_arguments(
        *(experiment, overrides, results, engine, pack, capture), arm=arm, seed=seed, retry_failed=retry_failed
    )
    where = f"{loaded.path}: launcher"
    launching = launching_of(launcher, loaded.config.launcher, jobs, where, work, overrides=overrides or [])
    plan = plan_launch(loaded, trials, results, choice, retry_failed=retry_failed, launching=launching)
    num_parts = sum(task.run.is_sealed for task in plan.pending)
    distinct = len(plan.reused) + len(plan.pending) - num_parts
    same = "" if distinct == len(trials) else f" ({distinct} distinct)"
    first = f", {num_parts} of them first, for their weights" if num_parts else ""
    print(
        f"{loaded.name}: {len(trials)} trials{same}, {len(plan.reused)} finished, {len(plan.pending)} to train{first}"
    )
    if plan.outdated:
        print(plan.outdated)
    tell_data(preflight(plan, launching=launching).lines(quiet))
    with following(plan.store.path, tracker):
        with run_progress(plan.pending, quiet) as progress:
            report = run_experiment(plan, jobs, progress.hear, launching)
        report.failures += show_table(plan.store)
    end_with(report)


def tell_data(lines: Iterable[str]) -> None:
    """Print what the data hold and what must be known of them, before anything is trained."""
    for line in lines:
        print(f"data: {line}", flush=True)


def end_with(report: RunReport) -> None:
    """Print a line for each failure and end with 1, or 2 if one was the user's; do nothing when nothing failed."""
    for line in report.failures:
        print_error(line)
    if report.failures:
        raise typer.Exit(2 if report.user_error else 1)


def show_table(store: RecordStore) -> list[str]:
    """Print the table, and keep it as table.md (to read) and table.json (to check), if any trial is finished.

    Returns a line for a table that cannot be made, whatever else is trained.
    """
    from harness.tables.keep import keep_if_possible
    from harness.tables.render.terminal import print_terminal

    kept = keep_if_possible(store)  # first: what cannot be printed is kept all the same
    if kept.table is not None:
        print_terminal(kept.table)
    if kept.reason is not None and not kept.is_fault:
        print(kept.reason)
    return [kept.reason] if kept.reason is not None and kept.is_fault else []
