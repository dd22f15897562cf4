"""Our own contestants: the plain loop, the cut, packs, the plain loop under joblib and under Ray Tune.

    own_engines.py WORKLOAD OUTCOME --how plain|cut|packed|auto|joblib|ray [--workers 2] [--pack 8] [--cpus 0.5]

A worker has one thread. The frozen prefix is computed inside the measured time. Runs in the harness's environment (Ray:
in one that sees it and has Ray besides).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
from pathlib import Path
from typing import Any

from measuring import Meter, write_outcome
from worker_processes import check_alive, start_all

Numbered = list[tuple[int, dict[str, Any]]]  # (number, config)


def train_some(trials: Numbered, engine: str, pack: int, resources: Any = None) -> list[dict[str, Any]]:
    """Train in this process."""
    import torch
    from driving import train_list

    from harness.config.trial import TrialConfig
    from harness.training.resources import Resources

    torch.set_num_threads(1)
    configs = [TrialConfig.model_validate(config) for _, config in trials]
    entries = train_list(configs, resources or Resources(sealed=True), engine, pack)
    return [
        {"number": number, "epochs": [entry["metrics"] for entry in found]}
        for (number, _), found in zip(trials, entries, strict=True)
    ]


def warm_up(trials: Numbered) -> Any:
    """Imports, corpus, backbone and the base model's scores; a short training makes the first calls."""
    from harness.training.resources import Resources

    number, config = trials[0]
    short = {**config, "data": {**config["data"], "train_limit": 32}, "loop": {**config["loop"], "epochs": 1}}
    resources = Resources(sealed=True)
    train_some([(number, short)], "plain", 1, resources)
    return resources


def _work(trials: Numbered, engine: str, pack: int, ready: Any, go: Any, told: Any) -> None:
    resources = warm_up(trials)
    ready.release()
    go.wait()
    told.put(train_some(trials, engine, pack, resources))


def run_workers(trials: Numbered, engine: str, pack: int, num_workers: int) -> tuple[Meter, list[dict[str, Any]]]:
    """The list over worker processes, each with every n-th trial."""
    context = multiprocessing.get_context("spawn")
    ready, go, told = context.Semaphore(0), context.Event(), context.Queue()
    shares = [trials[start::num_workers] for start in range(num_workers)]
    workers = [
        context.Process(target=_work, args=(share, engine, pack, ready, go, told), daemon=True) for share in shares
    ]
    start_all(workers, ready)
    results: list[dict[str, Any]] = []
    with Meter() as meter:
        go.set()
        num_told = 0
        while num_told < num_workers:
            try:
                results += told.get(timeout=1)
                num_told += 1
            except queue.Empty:
                check_alive(workers)
    for worker in workers:
        worker.join()
    return meter, results


_RESOURCES: dict[str, Any] = {}  # of a worker that joblib or Ray keeps alive


def _train_one(trial: tuple[int, dict[str, Any]], warm: bool = False) -> list[dict[str, Any]]:
    if warm:
        _RESOURCES["kept"] = warm_up([trial])
        return []
    if "kept" not in _RESOURCES:
        from harness.training.resources import Resources

        _RESOURCES["kept"] = Resources(sealed=True)
    return train_some([trial], "plain", 1, _RESOURCES["kept"])


def run_joblib(trials: Numbered, num_workers: int) -> tuple[Meter, list[dict[str, Any]]]:
    """joblib over cores, one trial a task, warm workers."""
    import joblib
    import own_engines as module  # importable in the workers, unlike __main__

    with joblib.Parallel(n_jobs=num_workers, batch_size=1) as parallel:
        parallel([joblib.delayed(module._train_one)(trials[0], True)] * num_workers)
        with Meter() as meter:
            results = parallel(joblib.delayed(module._train_one)(trial) for trial in trials)
    return meter, [row for rows in results for row in rows]


def run_ray(trials: Numbered, cpus: float) -> tuple[Meter, list[dict[str, Any]]]:
    """Ray Tune with fractional CPUs. Ray itself is up before the clock starts.

    Its workers are not: Tune starts them with its first trials, and they load inside the measured time. They are kept
    for the trials that follow (`reuse_actors`), with what they have loaded.
    """
    import own_engines as module
    import ray
    from ray import tune

    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, configure_logging=False)
    by_number = dict(trials)

    def trainable(asked: dict[str, Any]) -> dict[str, Any]:
        (row,) = module._train_one((asked["number"], by_number[asked["number"]]))
        return {"row": json.dumps(row)}

    space = {"number": tune.grid_search([number for number, _ in trials])}
    with Meter() as meter:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": cpus}),
            param_space=space,
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(verbose=0, storage_path=str(Path.cwd())),  # by default in the home folder
        )
        found: Any = tuner.fit()  # Ray does not type what its results are
    rows = [json.loads(result.metrics["row"]) for result in found]
    ray.shutdown()
    return meter, rows


def main() -> None:
    """Run one contestant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload")
    parser.add_argument("outcome")
    parser.add_argument("--how", required=True, choices=("plain", "cut", "packed", "auto", "joblib", "ray"))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--pack", type=int, default=1)
    parser.add_argument("--cpus", type=float, default=1.0)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    content = json.loads(Path(asked.workload).read_text(encoding="utf-8"))
    trials = [(trial["number"], trial["config"]) for trial in content["trials"]]
    if asked.how == "joblib":
        meter, results = run_joblib(trials, asked.workers)
    elif asked.how == "ray":
        meter, results = run_ray(trials, asked.cpus)
    else:
        meter, results = run_workers(trials, asked.how, asked.pack, asked.workers)
    write_outcome(asked.outcome, meter, results)


if __name__ == "__main__":
    main()
