"""Kill anything at any time: the same command goes on, and what it ends with is that of an uninterrupted run."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_tests.conftest import Cli
from tiny_text import TinyText

from harness.config.trees import merge

from .conftest import Process, Start, determined, kill_group, num_starts, table_of

pytestmark = pytest.mark.slow

NAME = "killed_often"


def write_experiment(files: TinyText, path: Path) -> Path:
    """Trials that train, with every kind of noise, two that only score, and two that go on from others of each kind."""
    base: dict[str, Any] = yaml.safe_load(files.experiment.read_text(encoding="utf-8"))["base"]
    noisy = {"adapter": {"dropout": 0.2}, "loop": {"patience": 4}}
    arms = {"frozen": {"train": "none", "adapter": None}, "noisy": noisy, "both": {"train": "adapters_and_head"}}
    chain = {"source": {"from": {"arm": "giver"}, "trainable": False}, "target": base["adapter"]}
    arms["stacked"] = {"adapter": None, "adapters": chain, "loop": {"epochs": 3}}
    arms["stages"] = {"stages": [{"train": "head", "loop": {"epochs": 3}}, {"loop": {"epochs": 3}}]}
    base = merge(base, {"data": {"train_limit": 24}, "loop": {"epochs": 5, "batch_size": 4}})
    parts = {"giver": {"loop": {"epochs": 3}}}
    return files.write_experiment(path, name=NAME, base=base, arms=arms, parts=parts, seeds=[0, 1])


def progress(results: Path) -> int:
    """Bytes in all logs and summaries: grows with every epoch and every trial."""
    paths = [*results.glob("records/*/log.jsonl"), *results.glob("records/*/summary.json")]
    return sum(path.stat().st_size for path in paths)


def kill_after(process: Process, results: Path, num_news: int, delay_s: float, alone: bool) -> None:
    """Wait for so many changes of the records (or the end), then a moment, then kill the process and its group.

    Or the process `alone`: then its workers have to notice, and end by themselves.
    """
    seen, news = progress(results), 0
    deadline = time.monotonic() + 120
    while news < num_news and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
        now = progress(results)
        news, seen = news + (now != seen), now
    time.sleep(delay_s)
    if alone:
        process.kill()
        process.communicate(timeout=100)  # returns when nobody holds its pipes any more
    kill_group(process)


def test_a_run_that_is_killed_again_and_again(
    tiny_text_files: TinyText, start: Start, cli: Cli, tmp_path: Path
) -> None:
    experiment = write_experiment(tiny_text_files, tmp_path / "e.yaml")
    command = ["run", experiment, "--wandb", "off", "--results"]
    whole = cli(*command, tmp_path / "whole")
    assert (whole.code, whole.err) == (0, "")
    assert "10 trials (9 distinct), 0 finished, 13 to train, 4 of them first, for their weights" in whole.out

    rng = random.Random(20261122)
    results = tmp_path / "killed" / NAME
    # While it starts, then in the middle of epochs and between trials, and once with two workers, which are spared.
    moments: list[tuple[int, float, list[str]]] = [
        (0, 0.5, []),
        (3, rng.uniform(0, 0.03), ["--jobs", "2"]),
        # In what gives weights, in what takes them, and in a later stage.
        *((8, rng.uniform(0, 0.03), []) for _ in range(3)),
    ]
    for num_news, delay_s, options in moments:
        process = start(*command, tmp_path / "killed", *options)
        kill_after(process, results, num_news, delay_s, alone=bool(options))
    assert list(results.glob("records/*/summary.json"))  # something was finished,
    rest = cli(*command, tmp_path / "killed")
    assert (rest.code, rest.err) == (0, "")
    assert " 0 to train" not in rest.out  # but not all
    assert determined(results) == determined(tmp_path / "whole" / NAME)
    assert table_of(rest.out) == table_of(whole.out)
    tables = [(tmp_path / which / NAME / "table.md").read_bytes() for which in ("killed", "whole")]
    assert tables[0] == tables[1]
    assert max(num_starts(results).values()) >= 2  # at least one trial was hit
    assert not list(results.rglob("traceback.txt"))  # a kill is no failure of a trial
