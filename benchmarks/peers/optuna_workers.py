"""The fixed list of trials as enqueued trials of Optuna studies (SQLite), in one or several worker processes.

Each worker has every n-th trial in a study of its own: two processes that take enqueued trials of one study from SQLite
were given the same trial at times (Optuna 5.0: "Cannot tell a COMPLETE trial").
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import torch
from measuring import Meter, write_outcome
from peer_task import read_workload
from worker_processes import check_alive, start_all

Train = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]


def _work(
    train: Train, workload: dict[str, Any], name: str, storage: str, threads: int, ready: Any, go: Any, told: Any
) -> None:
    torch.set_num_threads(threads)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    train({**workload, "epochs": 1, "train": workload["train"][:32]}, workload["trials"][0])  # imports, first calls
    study = optuna.load_study(study_name=name, storage=storage)
    ready.release()
    go.wait()

    def objective(asked: optuna.Trial) -> float:
        wanted = workload["trials"][asked.user_attrs["position"]]
        for name in ("lr", "weight_decay"):
            assert asked.suggest_float(name, 1e-6, 1.0) == wanted[name]
        trained = train(workload, wanted)
        told.put({"number": wanted["number"], **trained})
        return float(trained["epochs"][-1][workload["metric"]])

    study.optimize(objective, n_trials=len(study.get_trials(deepcopy=False)))
    told.put(None)


def main(train: Train) -> None:
    """`PROGRAM WORKLOAD OUTCOME [--workers N] [--threads N] [--grouped] [--no-dropout]`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload")
    parser.add_argument("outcome")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--grouped", action="store_true", help="batches of like length, not the defaults")
    parser.add_argument("--no-dropout", action="store_true", help="train without the encoder's own dropout")
    asked = parser.parse_args()
    workload = {**read_workload(asked.workload), "grouped": asked.grouped, "no_dropout": asked.no_dropout}
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    context = multiprocessing.get_context("spawn")
    ready, go, told = context.Semaphore(0), context.Event(), context.Queue()
    trials = []
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{Path(folder) / 'study.db'}"
        names = [f"worker{number}" for number in range(asked.workers)]
        studies = [
            optuna.create_study(study_name=name, storage=storage, direction=workload["direction"]) for name in names
        ]
        for position, trial in enumerate(workload["trials"]):
            params = {name: trial[name] for name in ("lr", "weight_decay")}
            studies[position % len(studies)].enqueue_trial(params, user_attrs={"position": position})
        arguments = (storage, asked.threads, ready, go, told)
        workers = [
            context.Process(target=_work, args=(train, workload, name, *arguments), daemon=True) for name in names
        ]
        start_all(workers, ready)
        with Meter() as meter:
            go.set()
            ended = 0
            while ended < len(workers):
                try:
                    message = told.get(timeout=1)
                except queue.Empty:
                    check_alive(workers)
                    continue
                ended += message is None
                trials += [] if message is None else [message]
        for worker in workers:
            worker.join()
    tokens = {name: sum(trial.pop(name) for trial in trials) for name in ("padded_tokens", "real_tokens")}
    write_outcome(asked.outcome, meter, trials, **tokens)
