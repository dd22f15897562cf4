"""The command `harness work`: a worker. It trains what the records lack, on any machine that has the results folder."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import RESULTS, Capture, Overrides, Pack, Results, RetryFailed, engine_option, file_argument
from harness.cli.run import end_with
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.engines.choice import EngineChoice
    from harness.launch.launchers import LauncherChoice
    from harness.launch.run_experiment import RunReport

LEFT = "trials under way are left at an epoch's end, with their checkpoints; the same command goes on"


def work(
    file: Annotated[Path, file_argument("sweep", "experiment")],
    overrides: Overrides = None,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time, where they can be packed; as many as a pack has.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="When to end, at an epoch's end: 4h, 17:30, 2026-12-01T08:00.")
    ] = None,
    results: Results = RESULTS,
    arm: Annotated[list[str] | None, typer.Option(help="Train only this arm of an experiment.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Train only this seed of an experiment.")] = None,
    retry_failed: RetryFailed = False,
    engine: Annotated[str | None, engine_option("auto for a sweep, plain for an experiment, if left out")] = None,
    pack: Pack = None,
    capture: Capture = False,
    mark: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Set by a launch: what the mark in its results folder holds.")
    ] = None,
) -> None:
    """Be a worker: train what a sweep or an experiment lacks.

    Start it on each machine that has the results folder, as often as you like; workers share the trials, and take over
    those of workers that died. It ends well on SIGTERM and SIGUSR2, as soon as the epochs under way have ended.
    `harness run` or `sweep` shows the table afterwards.
    """
    from harness.api.inputs import user_file
    from harness.config.kinds import WHAT, kinds_of
    from harness.config.yaml import read_yaml
    from harness.engines.choice import EngineChoice
    from harness.launch.launchers import choose_launcher
    from harness.launch.stopping import Stop, Stopped

    path = user_file(file, "sweep", "experiment")
    kinds = kinds_of(read_yaml(path))
    if kinds not in (("sweep",), ("experiment",)):
        what = WHAT[kinds[0]] if len(kinds) == 1 else "neither"
        raise UserError(f"{path}: expected a sweep or an experiment, but this is {what}")
    is_sweep, chosen = kinds == ("sweep",), (arm or [], seed or [], retry_failed)
    if is_sweep and (arm or seed):
        raise UserError(f"{path}: --arm and --seed are for experiments, and this is a sweep")
    choice = EngineChoice(engine or ("auto" if is_sweep else "plain"), pack, capture)
    launching = replace(choose_launcher("in_process", 1), num_slots=slots, stop=Stop(_deadline(until)))
    try:
        with launching.stop.by_signals():
            if is_sweep:
                report = _work_on_sweep(path, overrides or [], results, launching, choice, retry_failed, mark)
            else:
                report = _work_on_experiment(path, overrides or [], chosen, results, launching, choice, mark)
    except Stopped as stopped:
        print(f"stopped ({stopped}); {LEFT}", flush=True)
        return
    print("nothing is left", flush=True)
    end_with(report)


def _deadline(until: str | None) -> tuple[float, str] | None:
    if until is None:
        return None
    from harness.config.durations import moment_of

    try:
        moment = moment_of(until, datetime.now().astimezone())
    except ValueError as error:
        raise UserError(f"--until {until!r}: {error}") from error
    return moment.timestamp(), f"--until {until}"


def _check_folder(folder: Path, mark: str | None) -> None:
    """Refuse to train where nobody looks: beside the folder of the launch that started this worker.

    Raises:
        UserError: this machine sees another folder, or none.
    """
    from harness.launch.same_folder import not_seen_here, sees

    if mark is not None and not sees(folder, mark):
        raise UserError(not_seen_here(folder))


def _work_on_sweep(
    path: Path,
    overrides: list[str],
    results: Path,
    launcher: LauncherChoice,
    choice: EngineChoice,
    retry_failed: bool,
    mark: str | None,
) -> RunReport:
    """Go through the phases of a sweep with the other workers; returns how the last one went."""
    from harness.api.inputs import add_user_code
    from harness.cli.progress import Progress, search_line
    from harness.cli.sweep import search_and_freeze, train_confirm
    from harness.records.store import RecordStore
    from harness.search.preflight import preflight_sweep
    from harness.search.sweep_files import load_sweep
    from harness.sweep.race import Launch
    from harness.sweep.under_way import under_way

    loaded = load_sweep(path, overrides)
    _check_folder(results / loaded.name, mark)
    add_user_code(loaded.experiment.path)
    RecordStore(results, loaded.name).check_place()
    preflight_sweep(loaded, launching=launcher)
    with under_way(loaded, results):
        with Progress(lambda event: search_line(event, loaded.objectives)) as progress:
            run = Launch(results, 1, progress.hear, choice, launcher=launcher, retry_failed=retry_failed)
            result, frozen = search_and_freeze(loaded, run)
        _, report = train_confirm(loaded, result, frozen, run, quiet=True)
    return report


def _work_on_experiment(
    path: Path,
    overrides: list[str],
    chosen: tuple[list[str], list[int], bool],
    results: Path,
    launcher: LauncherChoice,
    choice: EngineChoice,
    mark: str | None,
) -> RunReport:
    """Train what an experiment lacks."""
    from harness.api.launches import plan_launch
    from harness.cli.progress import run_progress
    from harness.config.experiment import load_experiment, select_trials
    from harness.launch.run_experiment import preflight, run_experiment

    loaded, (arms, seeds, retry_failed) = load_experiment(path, overrides), chosen
    _check_folder(results / loaded.name, mark)
    trials = select_trials(loaded, arms, seeds)
    plan = plan_launch(loaded, trials, results, choice, retry_failed=retry_failed)
    print(f"{loaded.name}: {len(plan.reused)} trials are finished, {len(plan.pending)} to train", flush=True)
    preflight(plan, launching=launcher)
    with run_progress(plan.pending, quiet=True) as progress:
        return run_experiment(plan, 1, progress.hear, launcher)
