"""Run one trial into its record: resume from its checkpoint, and write down how it ended."""

from __future__ import annotations

import traceback
from collections.abc import Generator
from pathlib import Path

import torch

from harness import __version__
from harness.config.places import recorded_places
from harness.config.trial import CONFIG_VERSION, TrialConfig
from harness.data.speech_text import LATIN28
from harness.disk import append_line, read_lines, write_atomically, write_json
from harness.errors import EndedByCode, Passing, TrialError, UserError, first_line
from harness.records.predictions import prediction_lines
from harness.records.provenance import (
    git_state,
    installed_versions,
    machine,
    package_versions,
    packages_of,
    user_code,
    utc_now,
)
from harness.records.schema import Provenance, Summary, TrialState, assert_sealed
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import SEALED_PHASES, TrialRun
from harness.tasks.registry import name_of_task
from harness.training.engine import PLAIN_ENGINE, Engine, Fitting, drive
from harness.training.fit_plan import FitState
from harness.training.memory import PeakMemory, is_out_of_memory
from harness.training.resources import Resources
from harness.training.trial import Outcome, Report, Trial


def run_trial(
    config: TrialConfig,
    run: TrialRun,
    folder: TrialFolder,
    resources: Resources,
    report: Report = lambda entry: None,
    engine: Engine = PLAIN_ENGINE,
    records: Path | None = None,
) -> Summary:
    """Train one trial, alone, and write its record: see `trial_steps`."""
    return drive(trial_steps(config, run, folder, resources, report, engine, records))


def trial_steps(
    config: TrialConfig,
    run: TrialRun,
    folder: TrialFolder,
    resources: Resources,
    report: Report,
    engine: Engine = PLAIN_ENGINE,
    records: Path | None = None,
    gives: bool = False,
) -> Generator[Fitting, FitState, Summary]:
    """Train one trial and write its record; goes on from its checkpoint if it has one.

    A generator, as `Trial.steps`: whoever goes through it trains what it yields.

    A failure of the training is recorded (state `failed`, with its reason) and returned, not raised: a NaN, too little
    memory, a damaged checkpoint, a check that did not hold, an exception in a user's strategy (its traceback is kept).

    A search's record has no test numbers, no weights and no predictions: its trials are many, and its winners train
    again in the confirm phase. Nor has that of a pruned trial. That of a trial which only gives weights to others
    (phase "part") has weights alone.

    Args:
        resources: sealed for the phases "search" and "part", and for no other.
        report: called with each epoch's entry, after it is logged; True prunes the trial.
        engine: what trains it (see Trial).
        records: the folder with the records of trials that it takes weights from; that of its own record by default.
        gives: others take weights from it, so that it keeps them in a search, too.

    Raises:
        UserError: the trial's data, backbone or adapter do not fit together; the trial stays unfinished.
        TrialError: with reason `disk`: the record could not be written; with reason `sealed`: the resources are not
            those of the phase; the trial stays unfinished.
        Exception: whatever `report` raised, which stops the trial; it stays unfinished.
    """
    if resources.sealed != run.is_sealed:
        sealed = " and ".join(SEALED_PHASES)
        raise TrialError("sealed", f"phase {run.phase}: {sealed} load no test examples, and every other phase does")
    starts = folder.path / "starts.jsonl"
    folder.start(config.model_dump(mode="json", by_alias=True))
    append_line(starts, {"at": utc_now()})
    folder.restart_log([])
    memory = PeakMemory(torch.device(config.loop.device))

    def log(entry: dict[str, object]) -> bool | None:
        folder.append_log(entry)
        try:
            return report(entry)
        except Exception as error:
            raise _Stopped(error) from error

    trial = Trial(config, resources, folder.checkpoint, log, engine, records or folder.path.parent)
    try:
        summary = yield from attempt(trial, folder, memory, gives or run.phase != "search")
    except _Stopped as stopped:
        raise stopped.error from None
    if summary.reason == "disk":
        raise TrialError("disk", str(summary.message))
    folder.finish(summary, provenance(trial, [line["at"] for line in read_lines(starts)], folder.path))
    return summary


class _Stopped(Passing):
    """`report` raised `error`: the launch ends (its reader is gone, say), and that is no failure of the trial."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def attempt(
    trial: Trial, folder: TrialFolder, memory: PeakMemory, keeps: bool
) -> Generator[Fitting, FitState, Summary]:
    """Train, and save weights and predictions if it `keeps` them and is not pruned; returns how it ended."""
    try:
        outcome = yield from trial.steps()
        summary = completed(folder.trial_id, outcome, memory.peak_mb())
        if trial.sealed:
            assert_sealed(summary)
        if keeps and not outcome.pruned:
            save_weights(folder, outcome, trial)
        return summary
    except UserError:
        raise
    except TrialError as error:
        return failed(folder, error.reason, str(error))
    # Memory that ran out; or a bug, ours or that of a user's strategy: this trial's failure, with its cause on record.
    except Exception as error:
        if is_out_of_memory(error):
            return failed(folder, "oom", f"out of memory: {first_line(error)}")
        path = folder.path / "traceback.txt"
        write_atomically(path, traceback.format_exc().encode(errors="backslashreplace"))
        kind = "" if isinstance(error, EndedByCode) else f"{type(error).__name__}: "
        return failed(folder, "error", f"{kind}{first_line(error)} (see {path})")


def completed(trial_id: str, outcome: Outcome, peak_mb: float) -> Summary:
    """The summary of a trial that ran to its end or was pruned."""
    return Summary(
        trial_id=trial_id,
        state=TrialState.PRUNED if outcome.pruned else TrialState.COMPLETE,
        epochs_run=outcome.epochs_run,
        best_epoch=outcome.best_epoch,
        metrics=outcome.metrics,
        by_domain=outcome.by_domain,
        base=outcome.base,
        valid=outcome.valid,
        costs={"seconds": outcome.elapsed_s, "peak_memory_mb": peak_mb, **outcome.sharing},
        checks=outcome.checks,
        adapters=outcome.adapters,
        notes=outcome.notes,
    )


def failed(folder: TrialFolder, reason: str, message: str) -> Summary:
    """The summary of a trial that stopped, with what its log holds."""
    log = folder.read_log()
    return Summary(
        trial_id=folder.trial_id,
        state=TrialState.FAILED,
        reason=reason,
        message=message,
        epochs_run=len(log),
        valid={k: v for k, v in log[-1]["metrics"].items() if k.startswith("valid_")} if log else {},
    )


def save_weights(folder: TrialFolder, outcome: Outcome, trial: Trial) -> None:
    """Write the trained weights (adapters in their own file format) and the test predictions."""
    outcome.adapted.save(folder.path, trial.domains.backbone.fingerprint)
    if not trial.sealed:
        write_atomically(folder.path / "predictions.jsonl", prediction_lines(outcome.predictions))
    if outcome.attention is not None:
        write_json(folder.path / "attention.json", outcome.attention)


def provenance(trial: Trial, starts: list[str], record: Path) -> Provenance:
    """What the trial was made with; `starts` are the times at which it was launched, `record` is its folder."""
    members = trial.config.members
    paths = {"data.corpus": trial.config.data.corpus, "backbone.recipe": trial.config.backbone.recipe}
    for member in members:
        if member.source is not None and member.source.file is not None:
            paths[f"{member.place}.from.file"] = member.source.file
    allowed = [{"_target_": path} for m in members if m.source is not None for path in m.source.allow]
    commit, dirty = git_state()
    normaliser = trial.domains.backbone.recipe.text.normaliser_name
    return Provenance(
        harness_version=__version__,
        git_commit=commit,
        git_dirty=dirty,
        packages=package_versions() | installed_versions(packages_of(trial.config.adapter)),
        corpus_fingerprint=trial.domains.corpus.fingerprint,
        backbone_fingerprint=trial.domains.backbone.fingerprint,
        machine=machine(),
        started_at=starts[0],
        finished_at=utc_now(),
        num_starts=len(starts),
        user_code=user_code([*(member.settings for member in members), *allowed]),
        taken=trial.taken,
        config_version=CONFIG_VERSION,
        execution=trial.executed,
        task=name_of_task(type(trial.domains.plain_task)),
        places=recorded_places(paths, record),
        normaliser=None if normaliser == LATIN28.name else normaliser,
        preparation_fingerprint=trial.domains.made_with.preparation,
    )
