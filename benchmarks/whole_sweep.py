"""A sweep of 200 trials from the command to its end: everything counts, loading and starting of processes included.

Ours is the command `harness sweep` on two files: checks, plan, search, the winner's training on a fresh seed, its test
scores, table, figures and the export for Optuna. The peer's is one program that searches the same space with the same
sampler, on the same examples and encoder (tiny, trained a little: tiny_encoder.py), and writes its study to SQLite.

    python benchmarks/whole_sweep.py [--rounds 5] [--trials 200] [--only NAME ...] [--name whole_sweep]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environments import environment
from race import ADAPTERS_NOTE, PEFT_NOTE, PROGRAMS, TIMEOUT_S, fresh_cache
from reporting import describe_machine, write_result
from time_to_target import ENCODER_EPOCHS, MAX_LENGTH, SEARCH, SETTINGS
from tiny_encoder import tiny_recipe
from workload import Workload, make_workload

from harness.records.search import read_search

sys.path.append(str(PROGRAMS))
from own_search import write_sweep

ROOT = Path(__file__).parents[1]
LAG = 16  # trials under way in our search: enough for two workers with packs of 8
OUT_OF_REACH = 1e9  # the peers' program ends at a target or at its budget


@dataclass(frozen=True)
class Whole:
    """A contestant: an engine of ours, or a peer's program in its environment."""

    name: str
    engine: str = ""
    program: str = ""
    environment: str = "own"
    note: str = ""


CONTESTANTS = (
    Whole("ours: harness sweep, engine auto", "auto"),
    Whole("ours: harness sweep, engine plain", "plain"),
    Whole("f: PEFT + Trainer + Optuna", "", "peft_search.py", "peft", PEFT_NOTE),
    Whole("e: adapters + AdapterTrainer + Optuna", "", "adapters_search.py", "adapters", ADAPTERS_NOTE),
)


def run(contestant: Whole, workload: Path, content: dict[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """One sweep; its costs, and the best score that it found.

    Raises:
        RuntimeError: the command failed, or trained another number of trials.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        workers = str(os.cpu_count() or 1)
        if contestant.engine:
            path = write_sweep(content, "none", seed, place)
            how = ["--engine", contestant.engine, "--jobs", workers, "--wandb", "off", "--yes", "--quiet"]
            command = [sys.executable, "-m", "harness", "sweep", str(path), *how, "--results", name]
        else:
            python = environment(contestant.environment)
            how = ["--pruner", "none", "--seed", str(seed), "--workers", workers, "--cold"]
            outcome = str(place / "outcome.json")
            command = [str(python), str(PROGRAMS / contestant.program), str(workload), outcome, *how]
        paths = (ROOT, ROOT / "benchmarks", PROGRAMS)
        surroundings = {
            **os.environ,
            "HARNESS_CACHE": str(fresh_cache(place)),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        began = time.perf_counter()
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=place)
        wall_s = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"{contestant.name} failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
        num_complete, best = _ours(place) if contestant.engine else _theirs(place / "outcome.json")
    if num_complete < content["search"]["budget"]:  # the peers' workers may each begin one more
        raise RuntimeError(f"{contestant.name} trained {num_complete} trials")
    return {"wall_s": wall_s, "best": best}


def _ours(results: Path) -> tuple[int, float]:
    found = read_search(results / "searched")
    assert found is not None
    complete = [point for point in found.points if point.state == "complete"]
    return len(complete), max(-point.values[0] for point in complete)


def _theirs(path: Path) -> tuple[int, float]:
    outcome = json.loads(path.read_text(encoding="utf-8"))
    return outcome["num_complete"], outcome["best"]


def main() -> None:
    """Run the rounds, contestants in turn; write and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--only", nargs="+", help="beginnings of contestants' names")
    parser.add_argument("--name", default="whole_sweep")
    asked = parser.parse_args()
    chosen = [one for one in CONTESTANTS if not asked.only or one.name.startswith(tuple(asked.only))]
    machine = describe_machine()
    listed = make_workload(1, recipe=tiny_recipe(MAX_LENGTH, ENCODER_EPOCHS), **SETTINGS)
    endless = {"targets": [OUT_OF_REACH], "limit_s": float(TIMEOUT_S)}
    content = {**listed.content, "search": {**SEARCH, "budget": asked.trials, "lag": LAG, **endless}}
    runs: dict[str, list[dict[str, Any]]] = {one.name: [] for one in chosen}
    with tempfile.TemporaryDirectory() as name:
        workload = Path(name) / "workload.json"
        Workload(listed.trials, content).write(workload)
        for number in range(asked.rounds):
            for one in chosen:
                found = run(one, workload, content, number, Path(name))
                runs[one.name].append(found)
                print(f"round {number + 1}: {one.name}: {found['wall_s']:.1f} s, best {found['best']:.4f}", flush=True)
    summaries = [{"name": one.name, "note": one.note, **summarise(runs[one.name])} for one in chosen]
    settings = {"recipe": "tiny", "max_length": MAX_LENGTH, **SETTINGS}
    result = {"machine": machine, "workload": settings, "search": content["search"], "contestants": summaries}
    print(write_result(asked.name, result))


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians and ranges of a contestant's runs."""
    walls = [found["wall_s"] for found in runs]
    return {
        "num_runs": len(runs),
        "wall_s": statistics.median(walls),
        "wall_range_s": [min(walls), max(walls)],
        "best": [found["best"] for found in runs],
    }


if __name__ == "__main__":
    main()
