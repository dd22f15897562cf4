"""`harness run`: train the missing trials of an experiment, and write the manifest that its table is made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config.base import content_hash
from harness.config.design import describe_design
from harness.config.execution import PLAIN, Execution
from harness.config.experiment import Experiment, PlannedTrial
from harness.config.trial import CONFIG_VERSION, describe_old, trial_id_of
from harness.data.describe import ToldOfData
from harness.data.loaded import LoadedCorpora
from harness.errors import UserError
from harness.launch.events import Done, Failed, TrialEvent
from harness.launch.launcher import launch
from harness.launch.launchers import LauncherChoice, choose_launcher
from harness.launch.task import TrialTask, row_phase
from harness.records.declared import declare_claims
from harness.records.digests import begin_digests, take_digests, write_manifest
from harness.records.failures import TRIES
from harness.records.launches import declare_launch
from harness.records.left_over import drop_all_left_over
from harness.records.schema import Manifest, Summary
from harness.records.store import RecordStore
from harness.records.trial_run import TrialRun
from harness.tasks.fitting import check_fits

if TYPE_CHECKING:  # torch is loaded only when there is something to train
    from harness.training.resources import Resources


@dataclass
class RunReport:
    """How a launch went."""

    num_reused: int = 0
    num_trained: int = 0
    failures: list[str] = field(default_factory=list)
    user_error: str | None = None


@dataclass(frozen=True)
class RunPlan:
    """The trials to train, and the finished ones that are reused.

    Attributes:
        outdated: why finished trials of an older version are trained anew, as a sentence; None where there are none.
    """

    experiment: Experiment
    store: RecordStore
    pending: tuple[TrialTask, ...]
    reused: dict[str, Summary]
    outdated: str | None = None


def plan_run(
    experiment: Experiment,
    trials: Sequence[PlannedTrial],
    results: Path,
    *,
    retry_failed: bool = False,
    executions: Mapping[str, Execution] | None = None,
) -> RunPlan:
    """Find out what has to be trained.

    Args:
        trials: the experiment's trials, or some of them.
        executions: arm -> the engine that trains it; the plain loop where there is none.

    Raises:
        UserError: something is left to train, and the results folder cannot take it.
    """
    store = RecordStore(results, experiment.name)
    pending: dict[str, TrialTask] = {}
    reused: dict[str, Summary] = {}
    for task in tasks_of(experiment, trials, store, retry_failed, executions or {}):
        summary = store.trial(task.config.trial_id).summary()
        if summary is None or task.must_train(summary) or task.lacks_weights(summary):
            pending[task.config.trial_id] = task
        elif not task.run.is_sealed:
            store.trial(task.config.trial_id).check_whole()
            reused[task.config.trial_id] = summary
    if pending:
        store.check_place()
    return RunPlan(experiment, store, tuple(pending.values()), reused, _describe_outdated(store, trials))


def tasks_of(
    experiment: Experiment,
    trials: Sequence[PlannedTrial],
    store: RecordStore,
    retry_failed: bool,
    executions: Mapping[str, Execution],
) -> Iterator[TrialTask]:
    """The trainings of some trials and of all that they depend on, each once, and each after what it takes from.

    A dependency whose weights are not wanted, because all that take from it are finished, is left out.
    """
    rows = {trial.config.trial_id: trial for trial in reversed(trials)}  # the first arm of several that are one trial
    others = {part.config.trial_id: part for part in (*experiment.trials, *experiment.parts)}
    is_row = {trial.config.trial_id for trial in experiment.trials}
    made: dict[str, TrialTask] = {}

    def make(trial: PlannedTrial, gives: bool) -> TrialTask:
        trial_id = trial.config.trial_id
        needs: dict[Path, TrialTask] = {}
        for other in trial.config.needs:
            if other in others:  # else it is named by its id in the file, and has to be there
                need = make(others[other], True)
                needs |= {one.folder: one for one in (*need.needs, need)}
        phase = row_phase(trial.config) if trial_id in is_row else "part"
        run = TrialRun(trial_id, experiment.name, trial.arm, trial.seed, phase)
        execution = executions.get(trial.arm, PLAIN)
        folder = store.trial(trial_id).path
        return TrialTask(trial.config, run, folder, retry_failed, execution, tuple(needs.values()), gives)

    for trial_id in dict.fromkeys(trial.config.trial_id for trial in trials):  # several arms or seeds may be one trial
        task = make(rows[trial_id], False)
        wants = bool(task.needs) and task.must_train(store.trial(trial_id).summary())
        for one in (*(task.needs if wants else ()), task):
            known = made.get(one.config.trial_id)
            made[one.config.trial_id] = one if known is None or one.gives else known
    yield from made.values()


def _describe_outdated(store: RecordStore, trials: Sequence[PlannedTrial]) -> str | None:
    """Why finished trials of an older version are not reused; None where there are none."""
    reasons: Counter[str] = Counter()
    for trial in trials:
        config = {**trial.config.model_dump(mode="json", by_alias=True), "seed": trial.seed}
        for version in range(1, CONFIG_VERSION):
            if store.trial(trial_id_of(config, version)).is_finished():
                reasons[describe_old(version, config) or f"made with version {version} of the settings"] += 1
    return (
        "; ".join(
            f"{store.path}: {number} finished trials are not reused, and are trained anew under new ids: {reason}"
            for reason, number in reasons.items()
        )
        or None
    )


def manifest_of(experiment: Experiment) -> Manifest:
    """Which trials make the experiment, all of them, whether trained yet or not (its claims are added at launch)."""
    arms: dict[str, dict[int, str]] = {arm: {} for arm in experiment.config.arms}
    for trial in experiment.trials:
        arms[trial.arm][trial.seed] = trial.config.trial_id
    return Manifest(
        name=experiment.name,
        description=experiment.config.description,
        arms=arms,
        table=experiment.config.table.recorded(),
        notes=experiment.notes,
        rows={row.name: row for row in experiment.rows if row.rules},
        design=None if experiment.config.design is None else describe_design(experiment.config.design),
    )


def preflight(plan: RunPlan, resources: Resources | None = None, launching: LauncherChoice | None = None) -> ToldOfData:
    """Check everything that can be wrong before anything is trained: data, audio, backbones, layers, adapters.

    Args:
        resources: for a caller that goes on to use what is loaded here.
        launching: what will train. It is told to get ready; what is loaded here, one in this process goes on to use.

    Returns what the data hold, and what the user must know of them.

    Raises:
        UserError: one line about the first problem.
    """
    told = ToldOfData()
    if not plan.pending:
        return told
    check_needed(plan)
    loaded: dict[bool, Resources] = {}
    if launching is not None:
        launching.get_ready(task.config for task in plan.pending)
        loaded = loaded if launching.loaded is None else launching.loaded
    resources = resources or loaded.get(False)
    corpora = LoadedCorpora() if resources is None else resources.corpora
    check_run_fits(plan, corpora)
    from harness.training.resources import Resources
    from harness.training.trial import Trial

    resources = loaded[False] = resources or Resources(corpora=corpora)
    checked: set[str] = set()
    for task in plan.pending:
        config = task.config
        known = config.model_copy(update={"seed": 0}).trial_id  # seeds change nothing that is checked here
        if known in checked:
            continue
        checked.add(known)
        try:
            Trial(config, resources).check(is_part=task.run.phase == "part")
        except UserError as error:
            raise UserError(f"{plan.experiment.path}: arm {task.run.arm}: {error}") from error
        domains, names = resources.domains(config), (config.data.target, *config.data.source)
        remarks = (*domains.corpus.remarks(names), *domains.cut_notes(config.data), *domains.answer_notes(config.data))
        told.add_trials(domains.corpus, config.data, config.loop.meta, remarks)
    check_fingerprints(plan, resources)
    return told


def check_needed(plan: RunPlan) -> None:
    """Check that the trials which files name by their ids, to take weights from, are among the results.

    Raises:
        UserError: one is not there, or is not finished.
    """
    for task in plan.pending:
        trained = {need.folder for need in task.needs}
        for trial_id in task.config.needs:
            folder = plan.store.trial(trial_id)
            if folder.path not in trained and not folder.is_finished():
                raise UserError(
                    f"{plan.experiment.path}: arm {task.run.arm}: takes weights from trial {trial_id}, which has no "
                    f"finished record in {plan.store.path}; copy its folder there, or name an arm instead of a trial"
                )


def check_run_fits(plan: RunPlan, corpora: LoadedCorpora) -> None:
    """Check, before torch is loaded, that each arm's corpus fits its backbone; raises UserError as `check_fits`."""
    named = ((task.run.arm, task.config) for task in plan.pending)
    parts = {task.config.trial_id for task in plan.pending if task.run.phase == "part"}
    check_fits(named, str(plan.experiment.path), corpora, parts)


def check_fingerprints(plan: RunPlan, resources: Resources) -> None:
    """Refuse to add trials to records that were made with other data or another backbone.

    Raises:
        UserError: a finished record has another fingerprint than what is loaded now.
    """
    now = {}
    for task in plan.pending:
        domains = resources.domains(task.config)
        key = (task.config.backbone.recipe, task.config.data.corpus, content_hash(task.config.data.options))
        now[key] = domains.made_with
    for trial_id in plan.reused:
        record = plan.store.trial(trial_id).record()
        if record is None or record.provenance is None:
            continue
        data = record.config["data"]
        key = (record.config["backbone"]["recipe"], data["corpus"], content_hash(data["options"]))
        if key in now and (differs := now[key].difference(record.provenance.made_with)):
            raise UserError(
                f"{plan.store.path}: record {trial_id} was made with another {differs.what} than the one here; "
                "use another --results folder, or delete the records to train them again"
            )


def run_experiment(
    plan: RunPlan, num_jobs: int, tell: Callable[[TrialEvent], None], launcher: LauncherChoice | None = None
) -> RunReport:
    """Train what is pending and write the manifest.

    Args:
        num_jobs: worker processes.
        tell: called with every event.
        launcher: the one that fits `num_jobs` when None.
    """
    claims = {claim.id: claim.text for claim in plan.experiment.config.table.claims}
    if plan.pending:
        begin_digests(plan.store, [f"records/{task.config.trial_id}" for task in plan.pending])
    manifest = declare_claims(plan.store, manifest_of(plan.experiment), claims)
    write_manifest(plan.store, declare_launch(plan.store, manifest, plan.experiment.budget))
    report = RunReport(num_reused=len(plan.reused))
    for summary in plan.reused.values():
        _note_failure(report, plan, summary)

    def hear(event: TrialEvent) -> None:
        tell(event)
        if isinstance(event, Done):
            report.num_trained += 1
            _note_failure(report, plan, event.summary)
        elif isinstance(event, Failed):
            report.failures.append(f"{event.task.title}: {event.message}")
            if event.user_error:
                report.user_error = event.message

    if plan.pending:
        slots = max(task.execution.pack for task in plan.pending)
        with (launcher or choose_launcher(None, num_jobs)).make(hear, slots) as launching:
            launch(launching, plan.pending)
    drop_all_left_over(plan.store.path)
    take_digests(plan.store, "launch")
    return report


def _note_failure(report: RunReport, plan: RunPlan, summary: Summary) -> None:
    if summary.state == "complete":
        return
    trials = (*plan.experiment.trials, *plan.experiment.parts)
    titles = [f"{trial.arm}/seed{trial.seed}" for trial in trials if trial.config.trial_id == summary.trial_id]
    parked = (
        "; it is parked: with --retry-failed, or without its folder, it is tried again"
        if summary.reason in TRIES
        else ""
    )
    report.failures.append(f"{', '.join(titles)}: {summary.state.value}: {summary.reason}: {summary.message}{parked}")
