"""What the harness costs around training: ask, points, record, log, W&B offline, for a study of many trials.

A real search (`Search`, `ArmSearch`, `Mirror`, `Points`, leases, `Worker`, `run_trial`, W&B offline)
whose training is simulated: a trial uses its core's time for so long and reports eight epochs of a made-up score. What
passes beyond that time is the harness's and its libraries'. Trainings of 0 ms say how many trials the harness gets
through at most. W&B's processes work beside it; what they still have to do at its end is told apart. Exclusive times by
part: a part's time is without that of the parts it calls.

    python benchmarks/study_overhead.py [--trials 10000] [--train-ms 50 0] [--samplers random] [--pruners none median]
                                        [--trackers offline none] [--workers 1]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import optuna
from reporting import describe_machine, write_result

import harness.search.mirror
import harness.training.run_trial
from harness.cli.following import following
from harness.config.sweep import BudgetSettings
from harness.config.trial import TrialConfig
from harness.engines.choice import EngineChoice
from harness.launch.events import Done, Failed, TrialEvent
from harness.launch.in_process import InProcessLauncher
from harness.launch.worker import PackedWorker
from harness.records.made_with import MadeWith
from harness.records.points import Points
from harness.records.trial_folder import TrialFolder
from harness.search.arm_search import ArmSearch
from harness.search.declaration import Sweep
from harness.search.mirror import Judge, Mirror
from harness.search.search import Search
from harness.search.sweep_files import load_sweep
from harness.sweep.run_sweep import open_arms
from harness.tasks.text_classification import ClassificationTask
from harness.training.engine import Engine
from harness.training.trial import Outcome, Report

SWEEP = Path(__file__).parents[1] / "sweeps" / "text_depth_x_l2.yaml"
ARM = "residual_add_depth_l2"
LENGTHS = (100, 300, 1000, 3000, 10000)  # where the cost of a trial is read
WINDOW = 100  # the median of the last trials before each length


class Stopwatch:
    """Exclusive wall time by part: while a part runs, the part that called it stands still."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._running: list[str] = ["search"]
        self._since = time.perf_counter()

    def _switch(self) -> None:
        now = time.perf_counter()
        self.spent[self._running[-1]] += now - self._since
        self._since = now

    def read(self) -> dict[str, float]:
        """The parts' seconds until now."""
        self._switch()
        return dict(self.spent)

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Count the time of a method (of this thread) as `part`."""
        method: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._switch()
            self._running.append(part)
            try:
                return method(*args, **kwargs)
            finally:
                self._switch()
                self._running.pop()

        setattr(owner, name, timed)


class _Fingerprint:
    fingerprint = "simulated"


class _Recipe:
    """As one of a text model."""

    class text:
        normaliser_name = None


class _Backbone(_Fingerprint):
    recipe = _Recipe


class _Domains:
    corpus, backbone, plain_task = _Fingerprint(), _Backbone(), ClassificationTask.__new__(ClassificationTask)
    made_with = MadeWith("simulated", "simulated", "simulated")


class SimulatedTrial:
    """In the place of `Trial`: uses time, reports its epochs; the score depends on the config as a real one might."""

    train_s = 0.0  # of all epochs together, of the core's time: what is lost to others on the core is overhead

    taken: dict[str, str] = {}

    def __init__(
        self, config: TrialConfig, resources: Any, checkpoint: Any, report: Report, engine: Engine, records: Path
    ) -> None:
        self.config, self.report, self.sealed, self.domains = config, report, resources.sealed, _Domains()
        self.executed = engine.execution.record("plain", None)

    def steps(self) -> Generator[Any, Any, Outcome]:
        """Eight epochs of made-up scores; no training is ever due."""
        yield from ()
        strategy = (self.config.adapter or {})["adapter_strategy"]
        height = 0.6 - abs(strategy["stochastic_depth"] - 0.3) / 3 - abs(self.config.optim.lr - 3e-3) * 10
        valid: dict[str, float] = {}
        epochs, pruned = self.config.loop.epochs, False
        for epoch in range(1, epochs + 1):
            until = time.thread_time() + self.train_s / epochs
            while time.thread_time() < until:
                pass
            valid = {f"valid_target/{name}": height * (1 - 0.5**epoch) for name in ("macro_f1", "accuracy")}
            valid |= {f"valid_source/{name}": 0.5 for name in ("macro_f1", "accuracy")}
            valid |= {"valid_target/loss": 1.0, "valid_forgetting": 0.01, "valid_constrained_score": 0.1}
            pruned = bool(self.report({"epoch": epoch, "metrics": {"train/loss": 1.0, **valid}, "seconds": 0.0}))
            if pruned:
                break
        return Outcome(
            metrics={"trainable_parameters": 1.0, "trainable_share": 0.01},
            by_domain={},
            base={},
            valid=valid,
            checks={"base_restored": "simulated"},
            adapters={"encoder.layers.0.insertion": 1},
            notes=(),
            predictions={},
            epochs_run=epoch,
            best_epoch=epoch,
            elapsed_s=0.0,
            adapted=None,  # type: ignore[arg-type]  # a sealed trial's weights are not kept
            pruned=pruned,
        )


def watch_all(watch: Stopwatch) -> Callable[[], None]:
    """Put the stopwatch on every part; returns what takes it off again."""
    parts: list[tuple[Any, str, str]] = [
        (optuna.study.Study, "ask", "optuna: sampler"),
        (optuna.study.Study, "tell", "optuna: tell"),
        (Judge, "report", "optuna: pruner"),
        (Mirror, "ask", "mirror"),
        (Mirror, "judge", "mirror"),
        (Sweep, "trial", "config"),
        (PackedWorker, "start", "record"),
        (TrialFolder, "read_log", "record"),
        (Search, "tell", "search"),
    ]
    parts += [(Points, name, "points") for name in ("read", "write")]
    parts += [(ArmSearch, "refresh", "looking at records"), (Search, "_submit_next", "looking at records")]
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in parts]
    for owner, name, part in parts:
        watch.watch(owner, name, part)

    def restore() -> None:
        for owner, name, method in kept:
            setattr(owner, name, method)

    return restore


def help_out(changes: list[str], folder: Path, train_ms: float) -> None:
    """A further worker of a study, in a process of its own."""
    vars(harness.training.run_trial)["Trial"] = SimulatedTrial
    SimulatedTrial.train_s = train_ms / 1000
    sweep = load_sweep(SWEEP, changes)
    search = Search(sweep, open_arms(sweep, folder, EngineChoice("plain")), folder, lambda event: None)
    with InProcessLauncher(search.tell) as launcher:
        search.run(launcher)


def overrides(sampler: str, pruner: str, num_trials: int, num_workers: int = 1) -> list[str]:
    """One arm of the shipped sweep, with another sampler, pruner and budget."""
    searched = ("stochastic_depth", "l2_lambda")
    return [
        f"arms=[{ARM}]",
        *(f"space.adapter.adapter_strategy.{key}.arms=[{ARM}]" for key in searched),
        f"budget.trials={num_trials}",
        *([f"search.lag={num_workers}"] if num_workers > 4 else []),
        f"sampler={{name: {sampler}}}",
        f"pruner={{name: {pruner}}}",
        "table.baseline=null",
    ]


def run_study(
    sampler: str, pruner: str, tracker: str, num_trials: int, train_ms: float, folder: Path, num_workers: int = 1
) -> dict[str, Any]:
    """One study; its cost a trial at each length, by part, and of a restart at its end. Without the trainings' time."""
    sweep = load_sweep(SWEEP, overrides(sampler, pruner, num_trials, num_workers))
    watch = Stopwatch()
    ended: list[float] = []
    read: dict[int, dict[str, float]] = {0: {}}

    def hear(event: TrialEvent) -> None:
        if isinstance(event, Failed) or (isinstance(event, Done) and event.summary.state == "failed"):
            raise RuntimeError(f"a simulated trial failed: {event}")
        if isinstance(event, Done):
            ended.append(time.perf_counter())
            if len(ended) in LENGTHS or len(ended) + WINDOW in LENGTHS:
                read[len(ended)] = watch.read()

    about = (overrides(sampler, pruner, num_trials, num_workers), folder, train_ms)
    spawn = multiprocessing.get_context("spawn")
    helpers = [spawn.Process(target=help_out, args=about) for _ in range(num_workers - 1)]
    for process in helpers:
        process.start()
    arms = open_arms(sweep, folder, EngineChoice("plain"))
    search = Search(sweep, arms, folder, hear)
    restore = watch_all(watch)
    vars(harness.training.run_trial)["Trial"] = SimulatedTrial
    SimulatedTrial.train_s = train_ms / 1000
    os.environ["WANDB_MODE"] = tracker
    others = children_s()
    with following(folder / sweep.name, "none" if tracker == "none" else "wandb"):
        began, cpu = time.perf_counter(), time.process_time()
        with InProcessLauncher(search.tell) as launcher:
            search.run(launcher)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        ended_at = time.perf_counter()
    wait_s, others = time.perf_counter() - ended_at, children_s() - others  # W&B's process and its service
    restore()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    disk_mb = sum(path.lstat().st_size for path in (folder / sweep.name).rglob("*")) / 2**20
    restart_s = time_restart(sweep, arms[0], folder, num_trials)
    next_ms = time_next(sweep, arms[0], folder, num_trials)
    for process in helpers:
        process.join()
        assert process.exitcode == 0
    ids = [point.trial_ids[0] for point in arms[0].ended.values()]
    starts = [json.loads(line)["record"] for line in (folder / sweep.name / "starts.jsonl").read_text().splitlines()]
    # A pruner spares an unknown part of the training: such a study has trainings of 0 ms (see `main`).
    times = [now - before - train_ms / 1000 for before, now in zip([began, *ended], ended, strict=False)]
    at = [n for n in LENGTHS if n <= len(times)]
    return {
        "sampler": sampler,
        "pruner": pruner,
        "tracker": tracker,
        "trials": len(ended),
        "train_ms": train_ms,
        "wall_s": wall,
        "cpu_s": cpu - train_ms / 1000 * len(ended),
        "wandb_cpu_s": others,
        "wandb_wait_s": wait_s,
        "peak_mb": peak_mb,
        "disk_mb": disk_mb,
        "restart_s": restart_s,
        "next_ms": next_ms,
        "workers": num_workers,
        "lost": num_trials - len(ids),
        "trained_twice": len(starts) - len(set(starts)),
        "mean_ms": 1000 * wall / len(ended) - train_ms,
        "median_ms_at": {n: 1000 * statistics.median(times[n - WINDOW : n]) for n in at},
        "mean_ms_at": {n: parts_between(read, n, train_ms) for n in at},
    }


def children_s() -> float:
    """CPU seconds of this process's children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def parts_between(read: dict[int, dict[str, float]], length: int, train_ms: float) -> dict[str, float]:
    """Milliseconds a trial by part over the window that ends at `length`.

    Trainings run inside the part `record`, and are taken from it.
    """
    before, after = read[length - WINDOW], read[length]
    parts = {part: 1000 * (after[part] - before.get(part, 0.0)) / WINDOW for part in sorted(after)}
    return {**parts, "record": parts["record"] - train_ms}


def time_restart(sweep: Sweep, arm: ArmSearch, folder: Path, num_trials: int) -> float:
    """Seconds until a new process could draw the next trial: reading the points, and asking and telling again."""
    began = time.perf_counter()
    ArmSearch(sweep, arm.arm, folder).mirror.ask(num_trials)
    return time.perf_counter() - began


def time_next(sweep: Sweep, arm: ArmSearch, folder: Path, num_trials: int) -> float:
    """Milliseconds until a search of so many trials that have ended knows which one comes next: median of 20."""
    config = sweep.config.model_copy(update={"budget": BudgetSettings(trials=num_trials + 30)})
    longer = ArmSearch(replace(sweep, config=config), arm.arm, folder)
    times = []
    for number in range(num_trials, num_trials + 20):
        began = time.perf_counter()
        longer.refresh()  # draws what may be drawn now
        flight = longer.flights[number]
        times.append(time.perf_counter() - began)
        as_if = {"number": number, "drawn": flight.drawn, "params": flight.values}
        longer._end(longer.ended[number - 1].model_copy(update=as_if))
    return 1000 * statistics.median(times[1:])


def main() -> None:
    """Run the studies asked for, print and write them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=10000)
    parser.add_argument("--train-ms", nargs="+", type=float, default=[50.0, 0.0])
    parser.add_argument("--samplers", nargs="+", default=["random"])
    parser.add_argument("--pruners", nargs="+", default=["none"])
    parser.add_argument("--trackers", nargs="+", default=["offline"])
    parser.add_argument("--workers", type=int, default=1, help="processes on one folder")
    parser.add_argument("--name", default="study_overhead")
    asked = parser.parse_args()
    if asked.pruners != ["none"] and asked.train_ms != [0.0]:
        parser.error("--pruners: with --train-ms 0 only, as a pruned trial trains for an unknown time")
    machine, studies = describe_machine(), []
    for sampler, pruner, tracker, train_ms in product(asked.samplers, asked.pruners, asked.trackers, asked.train_ms):
        folder = Path(tempfile.mkdtemp())
        try:
            studies.append(run_study(sampler, pruner, tracker, asked.trials, train_ms, folder, asked.workers))
        finally:
            shutil.rmtree(folder)
        print_study(studies[-1])
    write_result(asked.name, {"machine": machine, "studies": studies})


def print_study(study: dict[str, Any]) -> None:
    """One study as text."""
    trials = f"{study['trials']} trials of {study['train_ms']:g} ms"
    print(f"{study['sampler']} / {study['pruner']} / W&B {study['tracker']}: {trials}", flush=True)
    print(
        f"  {study['mean_ms']:.1f} ms a trial beyond them, CPU {1000 * study['cpu_s'] / study['trials']:.1f} ms"
        f" (W&B's processes {1000 * study['wandb_cpu_s'] / study['trials']:.1f} ms,"
        f" waited for {study['wandb_wait_s']:.1f} s at the end),"
        f" next known in {study['next_ms']:.1f} ms, {study['workers']} workers, lost {study['lost']},"
        f" trained twice {study['trained_twice']}, restart {study['restart_s']:.1f} s,"
        f" peak {study['peak_mb']:.0f} MB, disk {study['disk_mb']:.0f} MB"
    )
    for length, parts in study["mean_ms_at"].items():
        shown = ", ".join(f"{part} {ms:.2f}" for part, ms in parts.items())
        print(f"  at {length}: median {study['median_ms_at'][length]:.1f} ms; {shown}", flush=True)


if __name__ == "__main__":
    main()
