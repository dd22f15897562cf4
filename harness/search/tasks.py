"""The trainings of a search as tasks for a launcher, with what they take weights from, and where their records lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.config.execution import PLAIN, Execution
from harness.config.trial import TrialConfig
from harness.launch.task import TrialTask
from harness.records.search import Value
from harness.records.trial_run import TrialRun
from harness.search.declaration import Arm, Sweep


def search_task(
    sweep: Sweep,
    arm: Arm,
    config: TrialConfig,
    number: int,
    values: Mapping[str, Value],
    results: Path,
    executions: Mapping[str, Execution],
) -> TrialTask:
    """One training of trial `number` of a search, for a launcher; the race uses the same records.

    It may be what another arm takes weights from. Then it keeps them, and trains to its end whatever a pruner says.
    """
    params = dict(values)
    run = TrialRun(config.trial_id, sweep.name, arm.name, config.seed, "search", number=number, params=params)
    folder = search_folder(results, sweep.name, run.trial_id)
    needs, gives = part_tasks(sweep, config, results, executions), run.trial_id in sweep.givers(config.seed)
    return TrialTask(config, run, folder, execution=executions.get(arm.name, PLAIN), needs=needs, gives=gives)


def part_tasks(
    sweep: Sweep, config: TrialConfig, results: Path, executions: Mapping[str, Execution]
) -> tuple[TrialTask, ...]:
    """What a trial of a search takes weights from; the worker that trains it trains these before, unless it finds them.

    Their records lie among those of the search, since no winner depends on a seed of the search.
    """
    made: list[TrialTask] = []
    for part in sweep.needs_of(config):
        run = TrialRun(part.config.trial_id, sweep.name, part.arm, part.seed, "part")
        folder = search_folder(results, sweep.name, run.trial_id)
        engine = executions.get(part.arm, PLAIN)
        made.append(TrialTask(part.config, run, folder, execution=engine, needs=tuple(made), gives=True))
    return tuple(made)


def search_folder(results: Path, sweep: str, trial_id: str) -> Path:
    """Where a search trial's record goes: apart from the confirm phase's records."""
    return results / sweep / "search" / trial_id
