"""How an experiment is going: which trainings of its manifest have ended, read from what is on disk. Loads no torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UserError
from harness.records.store import MANIFEST, RecordStore
from harness.sweep.searched import SWEEP_FILE
from harness.sweep.workers import Held, read_held


@dataclass(frozen=True)
class ArmTrainings:
    """One arm's trainings.

    Attributes:
        failed: reason -> how many ended with it.
        begun: trainings that have begun and not ended, whether a process is at them or not.
    """

    name: str
    planned: int
    complete: int
    failed: dict[str, int]
    begun: int

    @property
    def ended(self) -> int:
        return self.complete + sum(self.failed.values())


@dataclass(frozen=True)
class ExperimentStatus:
    """An experiment's arms, and who trains what; `training` until all planned trainings have ended."""

    name: str
    arms: tuple[ArmTrainings, ...]
    held: tuple[Held, ...] = ()

    @property
    def phase(self) -> Literal["training", "finished"]:
        return "finished" if all(arm.ended == arm.planned for arm in self.arms) else "training"


def list_results(results: Path) -> list[str]:
    """The sweeps and experiments of a results folder, by name.

    Raises:
        UserError: there is none.
    """
    names = sorted({path.parent.name for file in (SWEEP_FILE, MANIFEST) for path in results.glob(f"*/{file}")})
    if not names:
        raise UserError(f"{results}: nothing has been run there")
    return names


def is_sweep(name: str, results: Path) -> bool:
    """Whether the results of a name are a sweep's.

    Raises:
        UserError: there are none (the choices are named).
    """
    if (results / name / SWEEP_FILE).exists():
        return True
    if not (results / name / MANIFEST).exists():
        raise UserError(f"no results of {name!r} in {results}; choices: {', '.join(list_results(results))}")
    return False


def read_experiment_status(name: str, results: Path) -> ExperimentStatus:
    """Read how an experiment is going.

    Raises:
        UserError: its manifest or a summary is corrupt.
    """
    store = RecordStore(results, name)
    arms = []
    for row, seeds in store.manifest().arms.items():
        folders = [store.trial(trial_id) for trial_id in seeds.values()]
        summaries = [folder.summary() for folder in folders]
        ended = [summary for summary in summaries if summary is not None]
        failed = Counter(summary.reason or "error" for summary in ended if summary.state != "complete")
        begun = sum(f.has_started() for f, summary in zip(folders, summaries, strict=True) if summary is None)
        complete = len(ended) - failed.total()
        arms.append(ArmTrainings(row, len(folders), complete, dict(failed), begun))
    return ExperimentStatus(name, tuple(arms), tuple(read_held(store.path)))
