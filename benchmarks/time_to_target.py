"""The second race, kept apart: wall seconds until a search has found a target, with pruning and without.

Every contestant searches the same space with the same sampler and budget on the same examples and encoder (tiny,
trained a little: tiny_encoder.py) for the lowest validation loss on the target: macro-F1 of so few examples takes few
values, and the base model's is among the best of them. The seeds of the sampler are the rounds, and contestants take
turns in each. A target is reached by the first epoch of any trial whose score (the loss, negative) is at least as high;
a search that comes to the end of its budget or its time without has not reached it, and counts as slower than all that
have.

Two targets are fixed before the race: the 90th percentiles of the best scores of 32 random trials, trained by us and by
the peer. The two train somewhat different adapters, so that one side's target may be easy or out of reach for the
other; both are told. All scores are stored with the results, and so is what each engine takes for a random trial.

    python benchmarks/time_to_target.py [--seeds 5] [--only NAME ...] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from driving import train_list
from environments import environment
from race import ADAPTERS_NOTE, Contestant, E, packed, run_contestant
from reporting import describe_machine, write_result
from tiny_encoder import tiny_recipe
from workload import DECAY, LR, Workload, make_workload

from harness.engines.speed import describe_cut
from harness.training.resources import Resources
from harness.training.trial import Trial

METRIC = "valid_target/loss"
PERCENTILE = 90
MAX_LENGTH = 16  # tokens of a text: with batches of 16, at most 256 a step
ENCODER_EPOCHS = 4
SETTINGS: dict[str, Any] = {"first_layer": 2, "epochs": 8, "train_limit": 160, "valid_limit": 60}
SEARCH: dict[str, Any] = {
    "metric": METRIC,
    "space": {"lr": {"low": LR[0], "high": LR[1]}, "weight_decay": {"low": DECAY[0], "high": DECAY[1]}},
    "startup_trials": 8,
    "lag": 8,  # trials under way in our search: with fewer there is little to pack
    "pruner": {"n_startup_trials": 4, "n_warmup_steps": 3},
    "budget": 64,
    "limit_s": 40.0,
}
NUM_RANDOM = 32
ROUNDS = 3  # of the engines on random trials
QUICK_SETTINGS: dict[str, Any] = {"first_layer": 2, "epochs": 4, "train_limit": 32, "valid_limit": 16}
QUICK_SEARCH: dict[str, Any] = {**SEARCH, "budget": 8, "limit_s": 15.0}
QUICK_RANDOM = 4


def ours(engine: str, pruner: str) -> Contestant:
    """Our search with an engine, with a pruner or without."""
    name = f"ours: engine {engine}" + (", pruner" if pruner != "none" else "")
    return Contestant(name, "own_search.py", ("--engine", engine, "--pruner", pruner))


def theirs(pruner: str) -> Contestant:
    """The peer's search, with a pruner or without."""
    name = "e: adapters + AdapterTrainer + Optuna" + (", pruner" if pruner != "none" else "")
    return Contestant(name, "adapters_search.py", ("--pruner", pruner), "adapters", ADAPTERS_NOTE)


PLAIN, PLAIN_PRUNED = ours("plain", "none"), ours("plain", "median")
AUTO, AUTO_PRUNED = ours("auto", "none"), ours("auto", "median")
PEER, PEER_PRUNED = theirs("none"), theirs("median")
CONTESTANTS = (PLAIN, PLAIN_PRUNED, AUTO, AUTO_PRUNED, PEER, PEER_PRUNED)


def best_scores(outcome: Mapping[str, Any]) -> list[float]:
    """Each trial's best score over its epochs, by trial number."""
    return [max(-epoch[METRIC] for epoch in trial["epochs"]) for trial in outcome["trials"]]


def percentile(scores: Sequence[float], share: int) -> float:
    """A percentile, between the nearest two scores where it falls between them."""
    return statistics.quantiles(scores, n=100, method="inclusive")[share - 1]


def calibrate(workload: Workload, folder: Path) -> dict[str, Any]:
    """Random trials by both sides, the percentiles that are the targets, and what the engines give on them."""
    workload.write(folder / "random.json")
    scores = {}
    for contestant in (packed(8), E):
        python = environment(contestant.environment)
        scores[contestant.name] = best_scores(run_contestant(contestant, python, folder / "random.json", folder))
    at = {name: percentile(found, PERCENTILE) for name, found in scores.items()}
    return {"percentile": PERCENTILE, "scores": scores, "percentiles": at, "engines": engine_speeds(workload)}


def engine_speeds(workload: Workload) -> dict[str, Any]:
    """Seconds of a trial by each engine, warm, and the predicted limit of the cut."""
    torch.set_num_threads(1)
    resources, configs = Resources(sealed=True), workload.trials[: SEARCH["lag"]]
    trial = Trial(configs[0], resources)
    cut = describe_cut(trial, trial.adapted())
    assert not isinstance(cut, str), cut
    seconds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for engine in ("plain", "cut", "packed"):
            began = time.process_time()
            train_list(configs, resources, engine, len(configs))
            seconds.setdefault(engine, []).append((time.process_time() - began) / len(configs))
    return {"seconds": {name: statistics.median(found) for name, found in seconds.items()}, "limit": cut[1]}


def median_or_never(times: Sequence[float | None]) -> float | None:
    """The median, where never (None) is later than any time; None if it is never."""
    ordered = sorted(times, key=lambda found: (found is None, found or 0.0))
    middle = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return None if middle[0] is None or middle[1] is None else (middle[0] + middle[1]) / 2


def summarise_times(times: Sequence[float | None]) -> dict[str, Any]:
    """The times to one target, by seed; None is never, and slower than all others."""
    found = [time for time in times if time is not None]
    return {
        "reached_s": list(times),
        "num_reached": len(found),
        "median_s": median_or_never(times),
        "least_s": min(found, default=None),
        "most_s": max(found) if len(found) == len(times) else None,
    }


def summarise(contestant: Contestant, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A contestant's runs, in the order of their seeds: times to each target, and medians of what they cost."""

    def median(name: str) -> float:
        return statistics.median(run[name] for run in runs)

    return {
        "name": contestant.name,
        "note": contestant.note,
        "targets": [summarise_times(times) for times in zip(*(run["reached_s"] for run in runs), strict=True)],
        "best": [run["best"] for run in runs],
        "cpu_s": median("cpu_s"),
        "peak_mb": median("peak_mb"),
        "opening_s": median("opening_s"),
        "num_complete": median("num_complete"),
        "num_pruned": median("num_pruned"),
        "num_epochs": median("num_epochs"),
        "epochs_per_s": statistics.median(run["num_epochs"] / (run["wall_s"] - run["opening_s"]) for run in runs),
        "executions": [run["execution"] for run in runs if "execution" in run],
    }


def ratio(above: float | None, below: float | None) -> float | None:
    """A ratio; None where one of the two is missing (a target that was never reached)."""
    return above / below if above is not None and below is not None else None


def break_down(
    summaries: Mapping[str, Mapping[str, Any]], engines: Mapping[str, Any], epochs: int, target: int
) -> list[dict[str, Any]]:
    """The total, over the peer without a pruner, as overhead x cut x packing x pruning x the rest.

    Overhead is a ratio of trained epochs a second, and so is what the engine gives in the search; cut and packing are
    measured on random trials, all of a pack from its beginning (so that they need not multiply to what the search
    shows). Pruning is a ratio of times to the target, with the plain loop. The rest is what the factors do not explain:
    the opening of the study, packs that grow, other draws, idle workers.

    Args:
        summaries: by contestant's name.
        engines: see `engine_speeds`.
        epochs: of a trial: a pruner spares at most those after its warm-up.
        target: its place among the targets.
    """
    speed = {name: summary["epochs_per_s"] for name, summary in summaries.items()}
    times = {name: summary["targets"][target]["median_s"] for name, summary in summaries.items()}
    seconds = engines["seconds"]
    overhead = ratio(speed[PLAIN.name], speed[PEER.name])
    engine = ratio(speed[AUTO.name], speed[PLAIN.name])
    pruning = ratio(times[PLAIN.name], times[PLAIN_PRUNED.name])
    total = ratio(times[PEER.name], times[AUTO_PRUNED.name])
    known = None if overhead is None or engine is None or pruning is None else overhead * engine * pruning
    warmup = SEARCH["pruner"]["n_warmup_steps"]
    parts: list[tuple[str, float | None, float | None]] = [
        ("overhead: plain loop over AdapterTrainer, epochs a second", overhead, None),
        ("cut, random trials", ratio(seconds["plain"], seconds["cut"]), engines["limit"]),
        (f"packs of {SEARCH['lag']} behind the cut, random trials", ratio(seconds["cut"], seconds["packed"]), None),
        ("cut x packing in the search: auto over plain, epochs a second", engine, None),
        ("pruning: time to the target, plain loop", pruning, epochs / warmup),
        ("overhead x (cut x packing in the search) x pruning", known, None),
        ("the rest: draws, packs that grow, idle workers", ratio(total, known), None),
        ("total: peer without a pruner over auto with one, time to the target", total, None),
        ("for comparison: pruning, the peer's", ratio(times[PEER.name], times[PEER_PRUNED.name]), epochs / warmup),
    ]
    return [{"part": name, "factor": factor, "limit": limit} for name, factor, limit in parts]


def run_rounds(
    contestants: Sequence[Contestant], workload: Workload, search: Mapping[str, Any], seeds: int, folder: Path
) -> list[dict[str, Any]]:
    """One round a seed, contestants in turn; summaries in their order."""
    path = folder / "workload.json"
    Workload(workload.trials, {**workload.content, "search": search}).write(path)
    runs: dict[str, list[dict[str, Any]]] = {contestant.name: [] for contestant in contestants}
    for seed in range(seeds):
        for contestant in contestants:
            seeded = replace(contestant, arguments=(*contestant.arguments, "--seed", str(seed)))
            found = run_contestant(seeded, environment(contestant.environment), path, folder)
            runs[contestant.name].append(found)
            when = ", ".join("never" if at is None else f"{at:.1f} s" for at in found["reached_s"])
            print(
                f"seed {seed}: {contestant.name}: targets {when}; {found['num_epochs']} epochs in"
                f" {found['wall_s']:.1f} s, {found['num_complete']} complete, {found['num_pruned']} pruned,"
                f" best {found['best']:.4f}",
                flush=True,
            )
    return [summarise(contestant, runs[contestant.name]) for contestant in contestants]


def main() -> None:
    """Calibrate, run the rounds, write and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="beginnings of contestants' names; then nothing is broken down")
    parser.add_argument("--quick", action="store_true", help="tiny searches, one seed, to see that everything runs")
    parser.add_argument("--name", default="time_to_target")
    asked = parser.parse_args()
    settings, search = (QUICK_SETTINGS, QUICK_SEARCH) if asked.quick else (SETTINGS, SEARCH)
    seeds = 1 if asked.quick else asked.seeds
    chosen = [one for one in CONTESTANTS if not asked.only or one.name.startswith(tuple(asked.only))]
    machine = describe_machine()
    workload = make_workload(
        QUICK_RANDOM if asked.quick else NUM_RANDOM, recipe=tiny_recipe(MAX_LENGTH, ENCODER_EPOCHS), **settings
    )
    with tempfile.TemporaryDirectory() as name:
        calibration = calibrate(workload, Path(name))
        print(f"targets: {calibration['percentiles']}", flush=True)
        search = {**search, "targets": sorted(calibration["percentiles"].values())}
        summaries = run_rounds(chosen, workload, search, seeds, Path(name))
    content: dict[str, Any] = {
        "machine": machine,
        "workload": {"recipe": "tiny", "max_length": MAX_LENGTH, **settings},
        "search": search,
        "calibration": calibration,
        "contestants": summaries,
    }
    if len(chosen) == len(CONTESTANTS):
        by_name = {summary["name"]: summary for summary in summaries}
        content["breakdown"] = [
            break_down(by_name, calibration["engines"], settings["epochs"], place) for place in range(2)
        ]
    print(write_result(asked.name, content))


if __name__ == "__main__":
    main()
