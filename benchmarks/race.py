"""The race: one fixed list of trials, trained by every contestant in turn, round after round.

A contestant is a program in `peers/` that reads the list and writes its costs and every trial's metrics. Loading (of
libraries, data, backbone) is outside its measured time, everything after it inside: adapters, training, evaluation
after each epoch, and for our cut the frozen prefix.

    python benchmarks/race.py NAME [--repeats 5] [--only NAME ...] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from environments import environment
from reporting import describe_machine, write_result
from tiny_encoder import tiny_recipe
from workload import SPEECH, Workload, make_workload

from harness.backbones.recipe import backbone_cache

PROGRAMS = Path(__file__).parent / "peers"
TIMEOUT_S = 1800
TINY = "tiny"  # stands for the recipe of tiny_encoder.py
TINY_LENGTH = 4  # tokens of a text: with batches of 16, 64 a step


@dataclass(frozen=True)
class Contestant:
    """A program, its arguments and its environment; `note` says what a reader must know of its numbers."""

    name: str
    program: str
    arguments: tuple[str, ...] = ()
    environment: str = "own"
    note: str = ""


@dataclass(frozen=True)
class Race:
    """A workload and who runs in it; the first contestant is what the others are compared with."""

    settings: dict[str, Any]
    contestants: tuple[Contestant, ...]

    @property
    def others(self) -> tuple[Contestant, ...]:
        """Who runs besides, where there is a GPU: CTC, which reads lengths on the processor, is never captured."""
        return () if self.settings.get("sweep") == SPEECH else (GRAPHED,)


CORES = os.cpu_count() or 1
QUICK = {"num_trials": 2, "epochs": 1, "train_limit": 32, "valid_limit": 16}
PLAIN = Contestant("a: plain loop", "own_engines.py", ("--how", "plain"))
CUT = Contestant("b: plain + cut", "own_engines.py", ("--how", "cut"))
HAS_GPU = torch.cuda.is_available()
GRAPHED = Contestant("i: CUDA-graphed single loop", "graphed_loop.py", note="one trial at a time; no cut")
NO_GPU = {"name": GRAPHED.name, "note": "no GPU here"}


def packed(size: int) -> Contestant:
    """The cut and packs of so many trials, in each worker."""
    return Contestant(f"ours: cut + packs of {size}", "own_engines.py", ("--how", "packed", "--pack", str(size)))


WORKERS, THREADS = ("--workers", str(CORES)), ("--threads", str(CORES))
ADAPTERS_NOTE = "biases in the projections; another initialisation and data order"
PEFT_NOTE = "LoRA of the same size and place: PEFT has no bottleneck adapters"
HOULSBY_NOTE = "no library for adapters or training, the form of ours; another initialisation and data order"
E = Contestant("e: adapters + AdapterTrainer + Optuna", "adapters_trainer.py", WORKERS, "adapters", ADAPTERS_NOTE)
F = Contestant("f: PEFT + Trainer + Optuna", "peft_trainer.py", WORKERS, "peft", PEFT_NOTE)


def grouped(peer: Contestant) -> Contestant:
    """The peer with batches of like length, in training and scoring."""
    return replace(peer, name=f"{peer.name}, grouped", arguments=(*peer.arguments, "--grouped"))


def undropped(peer: Contestant) -> Contestant:
    """The peer without the encoder's own dropout, which ours trains without."""
    return replace(peer, name=f"{peer.name}, no dropout", arguments=(*peer.arguments, "--no-dropout"))


def threaded(peer: Contestant) -> Contestant:
    """The peer in one process that has all threads, which is what one gets without doing anything."""
    return replace(peer, name=f"{peer.name}, one process, all threads", arguments=THREADS)


G = Contestant(
    "g: adapters Parallel",
    "adapters_parallel.py",
    THREADS,
    "adapters",
    "one batch order and one clipping norm for all trials: other numbers; batches of like length",
)
H = Contestant("h: torch.func vmap", "functional_vmap.py", THREADS, note="no stochastic depth in the list; one process")
RAY_NOTE = "its workers load inside the measured time, once each"
J = Contestant("j: plain torch loop, Houlsby adapters", "houlsby_loop.py", WORKERS, "peft", HOULSBY_NOTE)
SMALL = {"num_trials": 16, "epochs": 8, "train_limit": 120, "valid_limit": 40}
# Fewer epochs than the sweep's eight tell against the cut (the frozen prefix is computed once an example).
RACES = {
    "pretrained": Race(
        # The sweep's proportion of examples (600 to 200 a domain), a sixth of them, and all of its epochs.
        {
            "recipe": "text_minilm",
            "first_layer": 3,
            "num_trials": 4,
            "epochs": 8,
            "train_limit": 96,
            "valid_limit": 32,
        },
        (CUT, packed(1), packed(2), E, F, undropped(E), undropped(F)),
    ),
    "pretrained_variants": Race(
        {
            "recipe": "text_minilm",
            "first_layer": 3,
            "num_trials": 4,
            "epochs": 4,
            "train_limit": 96,
            "valid_limit": 32,
        },
        (CUT, PLAIN, packed(2), grouped(E), threaded(E), grouped(F), threaded(F), G),
    ),
    "speech": Race(
        # The sweep's proportion of clips (100 to 25 a domain), a third of them, and all of its epochs.
        {
            "sweep": SPEECH,
            "recipe": "speech_whisper",
            "first_layer": 2,
            "num_trials": 4,
            "epochs": 10,
            "train_limit": 32,
            "valid_limit": 8,
        },
        (CUT, PLAIN, packed(1), packed(4), F, grouped(F), J, grouped(J)),
    ),
    "small": Race(
        {"recipe": "text_small", "first_layer": 2, **SMALL},
        (
            PLAIN,
            CUT,
            packed(8),
            Contestant("c: joblib over cores", "own_engines.py", ("--how", "joblib")),
            Contestant(
                "d: Ray Tune, a core a trial", "own_engines.py", ("--how", "ray", "--cpus", "1"), "ray", RAY_NOTE
            ),
            Contestant(
                "d: Ray Tune, half a core a trial", "own_engines.py", ("--how", "ray", "--cpus", "0.5"), "ray", RAY_NOTE
            ),
            H,
        ),
    ),
    "tiny": Race({"recipe": TINY, "first_layer": 0, **SMALL}, (PLAIN, CUT, packed(8), E, F)),
    "tiny_upper": Race({"recipe": TINY, "first_layer": 2, **SMALL}, (PLAIN, CUT, packed(8), E, F)),
}


def run_contestant(contestant: Contestant, python: Path, workload: Path, folder: Path) -> dict[str, Any]:
    """One run of one contestant.

    Raises:
        RuntimeError: its program failed; the end of its output is in the message.
    """
    outcome = folder / "outcome.json"
    outcome.unlink(missing_ok=True)
    cache = fresh_cache(folder)
    root = Path(__file__).parents[1]
    path = os.pathsep.join(str(part) for part in (root, root / "benchmarks", root / "benchmarks" / "peers"))
    done = subprocess.run(
        [python, PROGRAMS / contestant.program, workload, outcome, *contestant.arguments],
        env={
            **os.environ,
            "HARNESS_CACHE": str(cache),
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=folder,
    )
    if done.returncode or not outcome.exists():
        raise RuntimeError(f"{contestant.name} failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(outcome.read_text(encoding="utf-8"))
    return result


def fresh_cache(folder: Path) -> Path:
    """A cache with the user's backbones and nothing else: what the cut keeps would be there from the round before."""
    cache = folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir()
    backbones = backbone_cache().resolve() / "backbones"
    backbones.mkdir(parents=True, exist_ok=True)
    (cache / "backbones").symlink_to(backbones)
    return cache


def summarise(
    contestant: Contestant,
    runs: list[dict[str, Any]],
    first: list[dict[str, Any]],
    metric: str = "valid_target/macro_f1",
) -> dict[str, Any]:
    """Medians over the runs, and the last run's final metrics trial by trial beside those of the first contestant."""
    final = {trial["number"]: trial["epochs"][-1] for trial in runs[-1]["trials"]}
    against = {trial["number"]: trial["epochs"][-1] for trial in first[-1]["trials"]}
    if final.keys() != against.keys():
        raise RuntimeError(f"{contestant.name} trained the trials {sorted(final)}, not {sorted(against)}")
    epochs = {len(trial["epochs"]) for trial in runs[-1]["trials"]}
    if epochs != {len(trial["epochs"]) for trial in first[-1]["trials"]}:
        raise RuntimeError(f"{contestant.name} evaluated {epochs} times")
    walls = [run["wall_s"] for run in runs]
    return {
        "name": contestant.name,
        "note": contestant.note,
        "num_runs": len(runs),
        "wall_s": statistics.median(walls),
        "wall_range_s": [min(walls), max(walls)],
        "cpu_s": statistics.median(run["cpu_s"] for run in runs),
        "peak_mb": statistics.median(run["peak_mb"] for run in runs),
        "speedup": statistics.median(run["wall_s"] for run in first) / statistics.median(walls),
        "final": {number: final[number][metric] for number in sorted(final)},
        "greatest_difference": max(abs(final[n][metric] - against[n][metric]) for n in final),
        "mean_final": statistics.fmean(entry[metric] for entry in final.values()),
        **{name: runs[-1][name] for name in ("padded_tokens", "real_tokens") if name in runs[-1]},
    }


def run_race(race: Race, contestants: tuple[Contestant, ...], workload: Workload, repeats: int) -> list[dict[str, Any]]:
    """All rounds; summaries in the contestants' order."""
    pythons = {contestant.name: environment(contestant.environment) for contestant in contestants}
    runs: dict[str, list[dict[str, Any]]] = {contestant.name: [] for contestant in contestants}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workload.write(folder / "workload.json")
        for number in range(repeats):
            for contestant in contestants:
                python = pythons[contestant.name]
                found = run_contestant(contestant, python, folder / "workload.json", folder)
                runs[contestant.name].append(found)
                print(
                    f"round {number + 1}: {contestant.name}: {found['wall_s']:.1f} s, CPU {found['cpu_s']:.1f} s,"
                    f" {found['peak_mb']:.0f} MB",
                    flush=True,
                )
    metric, first = workload.content["metric"], runs[contestants[0].name]
    return [summarise(contestant, runs[contestant.name], first, metric) for contestant in contestants]


def main() -> None:
    """Run one race."""
    parser = argparse.ArgumentParser()
    parser.add_argument("race", choices=sorted(RACES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="beginnings of contestants' names; the first one always runs")
    parser.add_argument("--quick", action="store_true", help="a tiny list, to see that everything runs")
    parser.add_argument("--name")
    asked = parser.parse_args()
    race = RACES[asked.race]
    chosen = tuple(
        contestant
        for place, contestant in enumerate((*race.contestants, *(race.others if HAS_GPU else ())))
        if place == 0 or not asked.only or contestant.name.startswith(tuple(asked.only))
    )
    settings = {**race.settings, **(QUICK if asked.quick else {}), "device": "cuda" if HAS_GPU else "cpu"}
    machine = describe_machine()
    recipe = tiny_recipe(TINY_LENGTH) if settings["recipe"] == TINY else settings["recipe"]
    workload = make_workload(**{**settings, "recipe": recipe})
    summaries = run_race(race, chosen, workload, asked.repeats)
    missing = [NO_GPU] if race.others and not HAS_GPU else []
    content = {
        "machine": machine,
        "workload": settings,
        "metric": workload.content["metric"],
        "limits": workload.content["limits"],
        "contestants": summaries,
        "not_run": missing,
    }
    path = write_result(asked.name or f"race_{asked.race}", content)
    for summary in summaries:
        print(
            f"{summary['name']:42} {summary['wall_s']:7.1f} s  x{summary['speedup']:.2f}  {summary['mean_final']:.4f}"
        )
    print(path)


if __name__ == "__main__":
    main()
