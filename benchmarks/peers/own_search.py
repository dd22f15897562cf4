"""Our search, as `harness sweep` runs it (storage, choice of engine, workers, records), until it reaches the targets.

    own_search.py WORKLOAD OUTCOME --engine plain|auto --pruner none|median --seed 0 [--workers 2]

Loading is outside of the measured time: each worker has trained something before, by the plain loop. Opening the study
is inside.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from measuring import Meter
from progress import Progress, write_search

from harness.config.trial import TrialConfig
from harness.engines.choice import EngineChoice, num_slots
from harness.launch.events import Done, Epoch, Failed, TrialEvent
from harness.launch.launcher import launch
from harness.launch.processes import ProcessLauncher
from harness.launch.task import TrialTask
from harness.records.trial_run import TrialRun
from harness.search.arm_search import ArmSearch
from harness.search.declaration import Sweep
from harness.search.search import Search
from harness.search.sweep_files import load_sweep
from harness.sweep.run_sweep import open_arms

ARM = "adapters"


class Ended(Exception):
    """The targets are reached, or the time is over."""


def write_sweep(workload: dict[str, Any], pruner: str, seed: int, folder: Path) -> Path:
    """The workload's space around its first trial, as an experiment file and a sweep file."""
    first, search = workload["trials"][0]["config"], workload["search"]
    base = {name: value for name, value in first.items() if name != "seed"}
    experiment = {"name": "fixed", "base": base, "arms": {ARM: {}}, "seeds": [0]}
    (folder / "fixed.yaml").write_text(json.dumps(experiment), encoding="utf-8")
    space = {f"optim.{name}": {"type": "log_float", **ends} for name, ends in search["space"].items()}
    options = {"n_startup_trials": search["startup_trials"]}
    sweep = {
        "name": "searched",
        "experiment": "fixed.yaml",
        "space": space,
        "objectives": [{"metric": search["metric"]}],
        "sampler": {"name": "tpe", "options": options},
        "pruner": {"name": "none"} if pruner == "none" else {"name": pruner, "options": search["pruner"]},
        "budget": {"trials": search["budget"]},
        "search": {"seed": seed, "seeds": [first["seed"]], "lag": search["lag"]},
        "confirm": {"seeds": [0]},
    }
    path = folder / "searched.yaml"
    path.write_text(json.dumps(sweep), encoding="utf-8")
    return path


class TargetSearch:
    """A sweep's search phase that ends at the last target."""

    def __init__(self, sweep: Sweep, arms: list[ArmSearch], progress: Progress, folder: Path) -> None:
        self.progress, self.folder = progress, folder
        self.states: dict[str, int] = {}
        self.search = Search(sweep, arms, folder, self._hear)
        self._is_warming = True

    def _hear(self, event: TrialEvent) -> None:
        check_event(event)
        if isinstance(event, Done):
            self.states[event.summary.state] = self.states.get(event.summary.state, 0) + 1
        if isinstance(event, Epoch):
            self.progress.take(-event.entry["metrics"][self.search.sweep.objectives[0].metric])
            if self.progress.is_over:
                raise Ended

    def _tell(self, event: TrialEvent) -> bool | None:
        if self._is_warming:
            check_event(event)
            return None
        return self.search.tell(event)

    def run(self, num_workers: int, slots: int, first: dict[str, Any], spent_s: float) -> Meter:
        """Search with warm workers; the costs of it."""
        meter = Meter()
        with ProcessLauncher(self._tell, num_workers, slots) as launcher:
            launch(launcher, [warm_task(first, number, self.folder) for number in range(num_workers)])
            self._is_warming = False
            self.progress.start(spent_s)
            with meter, suppress(Ended):
                self.search.run(launcher)
        return meter


def check_event(event: TrialEvent) -> None:
    """Refuse failures: a run with one would be no measurement.

    Raises:
        RuntimeError: a trial failed.
    """
    if isinstance(event, Failed) or (isinstance(event, Done) and event.summary.state == "failed"):
        raise RuntimeError(f"a trial failed: {event}")


def warm_task(first: dict[str, Any], number: int, folder: Path) -> TrialTask:
    """A short training by the plain loop, which computes the base's scores, but no frozen prefix."""
    short = {**first, "data": {**first["data"], "train_limit": 32}, "loop": {**first["loop"], "epochs": 1}}
    config = TrialConfig.model_validate(short)
    run = TrialRun(config.trial_id, "warm", ARM, config.seed, "search", number=number)
    return TrialTask(config, run, folder / "warm" / str(number))


def main() -> None:
    """One search."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload")
    parser.add_argument("outcome")
    parser.add_argument("--engine", required=True)
    parser.add_argument("--pruner", required=True, choices=("none", "median"))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    workload = json.loads(Path(asked.workload).read_text(encoding="utf-8"))
    progress = Progress(workload["search"]["targets"], workload["search"]["limit_s"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_sweep(workload, asked.pruner, asked.seed, folder)
        with Meter() as opening:
            sweep = load_sweep(path)
            arms = open_arms(sweep, folder, EngineChoice(asked.engine))
        execution = arms[0].execution
        search = TargetSearch(sweep, arms, progress, folder)
        slots = num_slots({ARM: execution})
        searching = search.run(asked.workers, slots, workload["trials"][0]["config"], opening.wall_s)
    write_search(
        asked.outcome,
        progress,
        [opening, searching],
        opening_s=opening.wall_s,
        num_complete=search.states.get("complete", 0),
        num_pruned=search.states.get("pruned", 0),
        execution=execution.model_dump(mode="json"),
    )


if __name__ == "__main__":
    main()
