"""Real sweeps in processes of their own, faults that are put upon them, and what must be true after each.

`make chaos` sets how much: `HARNESS_CHAOS` random kills in all (6 if it is not set), from `HARNESS_CHAOS_SEED`, for at
most `HARNESS_CHAOS_MINUTES`. The seed is printed, and draws the same faults again; at which instruction one strikes is
the machine's.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from end_to_end.conftest import Process, Start, kill_group, start
from made_once import made_once
from tiny_text import TinyText

from harness.records.leases import holder

__all__ = ["start"]

NUM_KILLS = int(os.environ.get("HARNESS_CHAOS", "6"))
SEED = int(os.environ.get("HARNESS_CHAOS_SEED", "20261129"))
MINUTES = float(os.environ.get("HARNESS_CHAOS_MINUTES", "600"))
NAME = "chaos"
STRATEGY = "adapter.adapter_strategy"
ENGINES: Mapping[str, tuple[str, ...]] = {
    "plain": ("--engine", "plain"),
    "cut": ("--engine", "cut"),
    "packed": ("--engine", "packed", "--pack", "3"),
}
# What a launch says on stderr though nothing has failed: of an export that takes longer than the launch.
LATE = re.compile(r".*: the export of \w+ is not done; .*")
BEGAN = time.monotonic()
TALLY: Counter[str] = Counter()  # fault -> how often it was injected; "lost", "twice" -> results


@pytest.fixture(autouse=True, scope="session")
def told() -> Iterator[None]:
    """Print the figures at the end."""
    yield
    faults = {name: count for name, count in TALLY.items() if name not in ("lost", "twice")}
    print(f"\nchaos, seed {SEED}: {sum(faults.values())} faults injected ({faults}), "
          f"results lost: {TALLY['lost']}, counted twice: {TALLY['twice']}")  # fmt: skip


def is_over() -> bool:
    """Whether the time is up."""
    return time.monotonic() - BEGAN > MINUTES * 60


def rng_of(name: str) -> random.Random:
    """The generator of a test's faults."""
    print(f"seed {SEED} ({name})")
    return random.Random(f"{SEED}/{name}")


def write_sweep(files: TinyText, folder: Path, **changes: Any) -> Path:
    """Two searched arms, one of them with cut backbone, duplicates, pruning, a race, two rules."""
    experiment = yaml.safe_load(files.experiment.read_text(encoding="utf-8"))
    experiment["base"]["loop"] |= {"epochs": 3, "batch_size": 8, "valid_limit": 12}
    experiment["base"]["backbone"]["layers"] = {"from": 1}  # else nothing is frozen below, and no engine differs
    (folder / "tiny.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False), encoding="utf-8")
    content = {
        "name": NAME,
        "experiment": "tiny.yaml",
        "space": {
            "optim.lr": {"type": "log_float", "low": 1e-4, "high": 1e-1},
            f"{STRATEGY}.l2_lambda": {"type": "zero_or_log", "low": 1e-6, "high": 1e-2, "arms": ["residual_add"]},
        },
        "objectives": [{"metric": "valid_target/macro_f1"}],
        "constraints": [{"metric": "valid_forgetting", "at_most": -0.02}],
        "sampler": {"name": "tpe", "options": {"n_startup_trials": 2}},
        "pruner": {"name": "median", "options": {"n_startup_trials": 2, "n_warmup_steps": 1}},
        "budget": {"trials": 4},
        "search": {"lag": 2},
        "race": {"candidates": 1, "seeds": [1001]},
        "confirm": {"seeds": [0, 1], "rules": ["best", "constrained"]},
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False), encoding="utf-8")
    return path


@dataclass
class Victim:
    """A sweep that faults are put upon.

    Attributes:
        results: its folder, below that of all results.
        kept: its finished records, as they were seen after the last fault: path -> content of the summary.
    """

    start: Start
    path: Path
    results: Path
    engine: str
    reference: Path
    kept: dict[Path, bytes] = field(default_factory=dict)

    @property
    def command(self) -> tuple[str | Path, ...]:
        """The arguments of `harness` that run it, and that go on with it."""
        return "sweep", "--wandb", "off", *ENGINES[self.engine], self.path, "--results", self.results.parent

    def begin(self, *options: str | Path, **given: Any) -> Process:
        """Start the sweep's command."""
        return self.start(*self.command, *options, **given)

    def news(self) -> int:
        """Bytes in all logs and summaries."""
        paths = [*self.results.glob("*/*/log.jsonl"), *self.results.glob("*/*/summary.json")]
        return sum(path.stat().st_size for path in paths if path.exists())

    def wait(self, process: Process, num_news: int, delay_s: float = 0.0) -> bool:
        """Wait for so many changes of the records, then a moment; whether the process still runs."""
        seen, deadline = self.news(), time.monotonic() + 120
        while num_news and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
            if (now := self.news()) != seen:
                num_news, seen = num_news - 1, now
        time.sleep(delay_s)
        return process.poll() is None

    def note(self, fault: str) -> None:
        """Count a fault, and check that it took no finished record away, nor changed one."""
        TALLY[fault] += 1
        lost = [path for path, content in self.kept.items() if not path.exists() or path.read_bytes() != content]
        TALLY["lost"] += len(lost)
        assert lost == [], f"{fault}: finished records are gone or changed"
        self.kept |= {path: path.read_bytes() for path in self.results.glob("*/*/summary.json")}

    def end(self, *options: str | Path, **given: Any) -> None:
        """Run the same command to its end, and check what it leaves."""
        self.has_ended(self.begin(*options, **given))

    def has_ended(self, process: Process) -> None:
        """Wait for a launch that is to come to its end, and check what it leaves."""
        _, err = process.communicate(timeout=1800)
        assert process.returncode == 0 and not odd_lines(err), err
        self.check()

    def check(self) -> None:
        """The same trials, each once, the same winners, the same table, and nothing half done."""
        found, expected = trials_of(self.results), trials_of(self.reference)
        TALLY["lost"] += len(set(expected) - set(found))
        TALLY["twice"] += sum((Counter(found) - Counter(expected)).values())
        assert found == expected
        for name in ("frozen.json", "table.md", "table.json"):
            assert (self.results / name).read_bytes() == (self.reference / name).read_bytes(), name
        assert points_of(self.results) == points_of(self.reference)
        deadline = time.monotonic() + 120
        while (export := holder(self.results, "export")) and export.alive and time.monotonic() < deadline:
            time.sleep(0.05)  # a process of its own, which no launch waits for long
        left = [path for path in self.results.rglob(".*") if path.is_file() and path.name != ".lock"]
        assert [*left, *self.results.rglob("checkpoint.safetensors")] == []


def odd_lines(err: str) -> list[str]:
    """What a launch said on stderr besides that its export is late."""
    return [line for line in err.splitlines() if not LATE.fullmatch(line)]


def trials_of(results: Path) -> list[str]:
    """All finished trainings: phase and id."""
    return sorted(str(path.parent.relative_to(results)) for path in results.glob("*/*/summary.json"))


def points_of(results: Path) -> Any:
    """The search's trials, without what differs from run to run."""
    content = json.loads((results / "search.json").read_text(encoding="utf-8"))
    return [{key: value for key, value in point.items() if key != "seconds"} for point in content["points"]]


@pytest.fixture
def victim(
    tiny_text_files: TinyText, start: Start, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Victim]:
    """A function that makes a sweep to put faults upon; the same one, uninterrupted, is its reference."""
    path = write_sweep(tiny_text_files, tmp_path)

    def make(engine: str = "plain", results: Path = tmp_path / "r") -> Victim:
        def run(folder: Path) -> None:
            whole = Victim(start, path, folder / NAME, engine, folder / NAME)
            process = whole.begin()
            _, err = process.communicate(timeout=1800)
            assert process.returncode == 0 and not odd_lines(err), err

        reference = made_once(tmp_path_factory, f"chaos_{engine}", run) / NAME
        return Victim(start, path, results / NAME, engine, reference)

    return make


def children_of(process: Process) -> list[int]:
    """The worker processes of a launch: forked from a server that it started."""
    try:
        started = [pid for pid in _children(process.pid) if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return [worker for server in started for worker in _children(server)]
    except OSError:
        return []


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]


def kill(process: Process, how: str, rng: random.Random) -> bool:
    """SIGKILL to all of a launch, to its launcher alone, or to one of its workers; whether the launch is over."""
    workers = children_of(process)
    if how == "worker" and workers:
        os.kill(rng.choice(workers), signal.SIGKILL)
        return False
    if how == "launcher":
        process.kill()
        process.communicate(timeout=100)  # returns when no worker holds its pipes any more
    kill_group(process)
    return True
