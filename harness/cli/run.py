"""The command `harness run`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from harness.cli.errors import print_error
from harness.cli.progress import make_progress
from harness.config.experiment import load_experiment, select_trials
from harness.config.trial import TrialConfig
from harness.errors import UserError
from harness.records.store import RecordStore

WANDB_CHOICES = ("auto", "offline", "online", "off")


def run_command(
    path: Path,
    overrides: Sequence[str],
    arms: Sequence[str],
    seeds: Sequence[int],
    jobs: int,
    results: Path,
    wandb: str,
    retry_failed: bool,
    quiet: bool,
    engine: str = "plain",
    pack: int | None = None,
) -> None:
    """Plan, check, train what is missing, print the table.

    Raises:
        UserError: the input is wrong.
        typer.Exit: code 1 when a trial failed.
    """
    if wandb not in WANDB_CHOICES:
        raise UserError(f"--wandb {wandb!r}; choices: {', '.join(WANDB_CHOICES)}")
    if overrides and not path.suffix:
        raise UserError(f"{path}: expected an experiment file (YAML) before the overrides")
    add_user_code(path)
    experiment = load_experiment(path, overrides)
    trials = select_trials(experiment, arms, seeds)

    from harness.engines.choice import EngineChoice, experiment_executions
    from harness.launch.run_experiment import plan_run, preflight, run_experiment

    choice = EngineChoice(engine, pack, jobs)
    folder = results / experiment.name
    configs: dict[str, list[TrialConfig]] = {}
    for trial in trials:
        configs.setdefault(trial.arm, []).append(trial.config)
    executions = experiment_executions(folder, configs, choice, any(folder.glob("records/*/summary.json")))
    plan = plan_run(
        experiment,
        trials,
        results,
        wandb_mode=wandb_mode(wandb),
        retry_failed=retry_failed,
        executions=executions,
    )
    distinct = len(plan.reused) + len(plan.pending)
    same = "" if distinct == len(trials) else f" ({distinct} distinct)"
    print(f"{experiment.name}: {len(trials)} trials{same}, {len(plan.reused)} finished, {len(plan.pending)} to train")
    preflight(plan)
    with make_progress(plan.pending, quiet) as progress:
        report = run_experiment(plan, jobs, progress.hear)

    show_table(plan.store)
    for line in report.failures:
        print_error(line)
    if report.failures:
        raise typer.Exit(2 if report.user_error else 1)


def show_table(store: RecordStore) -> None:
    """Print the table, and keep it as table.md (to read) and table.json (to check), if any trial is finished."""
    from harness.disk import write_atomically
    from harness.tables.build import build_table
    from harness.tables.load import any_finished
    from harness.tables.render.formats import render
    from harness.tables.render.terminal import print_terminal

    if not any_finished(store):
        return
    table = build_table(store)
    print_terminal(table)
    for format in ("md", "json"):
        path = store.path / f"table.{format}"
        text = render(table, format).encode()
        if not path.exists() or path.read_bytes() != text:
            write_atomically(path, text)


def add_user_code(path: Path) -> None:
    """Let `_target_` name modules beside the experiment file, or in the current folder."""
    for folder in (Path.cwd(), path.parent.resolve()):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def wandb_mode(choice: str) -> str | None:
    """The W&B mode for a choice; None for no W&B at all."""
    from harness.tracking.wandb_tracker import choose_mode

    mode = choose_mode() if choice == "auto" else choice
    return None if mode in ("off", "disabled") else mode
