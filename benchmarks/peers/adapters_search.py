"""A search with `adapters` + AdapterTrainer + Optuna until its scores reach the targets: one study, a worker a core.

    adapters_search.py WORKLOAD OUTCOME --pruner none|median --seed 0 [--workers 2]

Optuna's sampler and pruner with the options that our sweep gives them; the study lies in SQLite, as ours does. Each
worker draws when it is free, from all that has ended by then. Loading is outside of the measured time, as in ours.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import optuna
import torch
from adapters_trainer import train
from measuring import Meter
from peer_task import read_workload
from progress import Progress, write_search
from worker_processes import check_alive, start_all

STUDY = "searched"


def _work(workload: dict[str, Any], storage: str, pruner: str, seed: int, ready: Any, go: Any, told: Any) -> None:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    first, search = workload["trials"][0], workload["search"]
    train({**workload, "epochs": 1, "train": workload["train"][:32]}, first)  # imports, first calls
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=search["startup_trials"], multivariate=True, constant_liar=True, seed=seed
        )
    judge = optuna.pruners.NopPruner() if pruner == "none" else optuna.pruners.MedianPruner(**search["pruner"])
    study = optuna.load_study(study_name=STUDY, storage=storage, sampler=sampler, pruner=judge)
    ready.release()
    go.wait()

    def objective(asked: optuna.Trial) -> float:
        drawn = {
            name: asked.suggest_float(name, ends["low"], ends["high"], log=True)
            for name, ends in search["space"].items()
        }

        def hear(epoch: int, metrics: dict[str, float]) -> None:
            loss = metrics[search["metric"]]
            told.put((-loss, time.perf_counter()))
            asked.report(loss, epoch)
            if asked.should_prune():
                raise optuna.TrialPruned

        epochs = train(workload, {**first, **drawn}, hear)["epochs"]
        # As in ours: the value of a trial is that of its epoch with the best macro-F1.
        best = max(epochs, key=lambda metrics: metrics["valid_target/macro_f1"])
        return best[search["metric"]]

    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    study.optimize(objective, callbacks=[optuna.study.MaxTrialsCallback(search["budget"], states=ended)])
    told.put(None)


def follow(progress: Progress, workers: list[Any], told: Any) -> None:
    """Take the workers' scores until the search is over."""
    num_working = len(workers)
    while num_working and not progress.is_over:
        try:
            message = told.get(timeout=0.2)
        except queue.Empty:
            check_alive(workers)
            continue
        if message is None:
            num_working -= 1
        else:
            progress.take(*message)


def main() -> None:
    """One search."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload")
    parser.add_argument("outcome")
    parser.add_argument("--pruner", required=True, choices=("none", "median"))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    workload = {**read_workload(asked.workload), "grouped": False, "no_dropout": False}
    progress = Progress(workload["search"]["targets"], workload["search"]["limit_s"])
    context = multiprocessing.get_context("spawn")
    ready, go, told = context.Semaphore(0), context.Event(), context.Queue()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{Path(folder) / 'study.db'}"
        study = optuna.create_study(study_name=STUDY, storage=storage, direction="minimize")
        seeds = [asked.seed * 1000 + number for number in range(asked.workers)]  # alike, they would draw alike
        workers = [
            context.Process(target=_work, args=(workload, storage, asked.pruner, seed, ready, go, told), daemon=True)
            for seed in seeds
        ]
        start_all(workers, ready)
        progress.start()
        with Meter() as meter:
            go.set()
            follow(progress, workers, told)
        for worker in workers:
            worker.terminate()
            worker.join()
        states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
    if "FAIL" in states:
        raise SystemExit("a trial failed")
    write_search(
        asked.outcome,
        progress,
        [meter],
        opening_s=0.0,
        num_complete=states.count("COMPLETE"),
        num_pruned=states.count("PRUNED"),
    )


if __name__ == "__main__":
    main()
