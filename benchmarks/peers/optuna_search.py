"""A search with another library's training + Optuna, until its scores reach the targets: one study, a worker a core.

    adapters_search.py|peft_search.py WORKLOAD OUTCOME --pruner none|median --seed 0 [--workers 2] [--cold]

Optuna's sampler and pruner with the options that our sweep gives them; the study lies in SQLite. Each worker draws when
it is free, from all that has ended by then. Loading is outside of the measured time, as in ours; where the whole
program is timed (`--cold`), nothing is trained for warming up.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import torch
from measuring import Meter
from peer_task import read_workload
from progress import Progress, write_search
from worker_processes import check_alive, start_all

STUDY = "searched"
Train = Callable[..., dict[str, Any]]


def _work(
    train: Train, workload: dict[str, Any], storage: str, asked: Any, seed: int, ready: Any, go: Any, told: Any
) -> None:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    first, search = workload["trials"][0], workload["search"]
    if not asked.cold:
        train({**workload, "epochs": 1, "train": workload["train"][:32]}, first)  # imports, first calls
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=search["startup_trials"], multivariate=True, constant_liar=True, seed=seed
        )
    judge = optuna.pruners.NopPruner() if asked.pruner == "none" else optuna.pruners.MedianPruner(**search["pruner"])
    study = optuna.load_study(study_name=STUDY, storage=storage, sampler=sampler, pruner=judge)
    ready.release()
    go.wait()

    def objective(trial: optuna.Trial) -> float:
        drawn = {
            name: trial.suggest_float(name, ends["low"], ends["high"], log=True)
            for name, ends in search["space"].items()
        }

        def hear(epoch: int, metrics: dict[str, float]) -> None:
            loss = metrics[search["metric"]]
            told.put((-loss, time.perf_counter()))
            trial.report(loss, epoch)
            if trial.should_prune():
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


def main(train: Train) -> None:
    """One search.

    Args:
        train: a trial of a workload; told of each epoch (trainer_settings.train_with).
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("workload")
    parser.add_argument("outcome")
    parser.add_argument("--pruner", required=True, choices=("none", "median"))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cold", action="store_true", help="train nothing before the search")
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
            context.Process(target=_work, args=(train, workload, storage, asked, seed, ready, go, told), daemon=True)
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
