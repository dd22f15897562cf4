"""The peak memory of a whole sweep on speech: `harness sweep` with its workers, sampled while it runs.

One arm of the shipped sweep over Whisper's encoder, its clips and its augmented views; the cut's files are made anew.
The peak is the command's own figure, which it prints and keeps: the sum of proportional set sizes of its process and
all that it started, sampled every two seconds.

    python benchmarks/sweep_memory.py [--trials 200] [--epochs 10] [--jobs 2] [--engine auto] [--name sweep_memory]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from race import fresh_cache
from reporting import describe_machine, write_result
from workload import SPEECH, SWEEPS

from harness.config.yaml import read_yaml
from harness.launch.process_memory import FILE

ROOT = Path(__file__).parents[1]
NAME = "memory"
ARM = "residual_add_depth_l2"
AIM_MB = 3072.0


def write_sweep(trials: int, epochs: int, folder: Path) -> Path:
    """The shipped sweep's space, one arm of it, without pruner, race and constraints: every trial trains to its end."""
    shipped = SWEEPS / f"{SPEECH}.yaml"
    content: dict[str, Any] = dict(read_yaml(shipped))
    del content["race"], content["constraints"]
    content |= {
        "name": NAME,
        "experiment": str((shipped.parent / content["experiment"]).resolve()),
        "settings": {**content["settings"], "loop.epochs": epochs},
        "arms": [ARM],
        "space": {key: {k: v for k, v in ends.items() if k != "arms"} for key, ends in content["space"].items()},
        "sampler": {"name": "random"},
        "pruner": {"name": "none"},
        "budget": {"trials": trials},
        "confirm": {"seeds": [0]},
        "table": {"metrics": ["target_cer"], "baseline": ARM},
    }
    path = folder / f"{NAME}.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def run_sweep(trials: int, epochs: int, jobs: int, engine: str, folder: Path) -> dict[str, Any]:
    """One sweep; the last line of its memory file, and the seconds that it took.

    Raises:
        RuntimeError: the command failed, or trained another number of trials.
    """
    path = write_sweep(trials, epochs, folder)
    options = ("--jobs", str(jobs), "--engine", engine, "--results", str(folder), "--track", "none", "--yes", "--quiet")
    command = [sys.executable, "-m", "harness", "sweep", str(path), *options]
    env = {**os.environ, "HARNESS_CACHE": str(fresh_cache(folder)), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the sweep ended with {done.returncode}:\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
    own: dict[str, Any] = json.loads((folder / NAME / FILE).read_text(encoding="utf-8").splitlines()[-1])
    num_trained = len(list((folder / NAME).glob("**/summary.json")))
    if num_trained != trials + 1:  # and the winner's confirmation
        raise RuntimeError(f"the sweep trained {num_trained} trials, not {trials} and a confirmation")
    return {**own, "wall_s": time.perf_counter() - began}


def main() -> None:
    """Measure one sweep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--name", default="sweep_memory")
    asked = parser.parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as name:
        found = run_sweep(asked.trials, asked.epochs, asked.jobs, asked.engine, Path(name))
    settings = {"sweep": SPEECH, "arm": ARM, **{key: value for key, value in vars(asked).items() if key != "name"}}
    path = write_result(asked.name, {"machine": machine, "sweep": settings, "aim_mb": AIM_MB, **found})
    print(f"peak {found['peak_mb']:.0f} MB in {found['processes']} processes, {found['wall_s']:.0f} s: {path}")


if __name__ == "__main__":
    main()
