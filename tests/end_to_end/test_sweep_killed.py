"""A sweep that is killed, packed or given more budget ends as an uninterrupted one (more kills: tests/chaos_tests)."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_tests.conftest import Cli
from made_once import made_once
from tiny_text import TinyText

from harness.records.search import SearchResult

from .conftest import Process, Start, finish, kill_group, table_of

pytestmark = pytest.mark.slow

STRATEGY = "adapter.adapter_strategy"
# The engine is named: `auto` measures, and two studies that are compared to the bit must have the same one.
SWEEP = ("sweep", "--wandb", "off", "--engine", "plain")
PACKED_SWEEP = ("sweep", "--wandb", "off", "--engine", "packed")


def write_sweep(files: TinyText, folder: Path, **changes: Any) -> Path:
    """A sweep over the tiny experiment: two searched arms, pruning, a race, two rules."""
    experiment = yaml.safe_load(files.experiment.read_text(encoding="utf-8"))
    experiment["base"]["data"]["train_limit"] = 24
    experiment["base"]["loop"] |= {"epochs": 4, "batch_size": 8}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False), encoding="utf-8")
    content = {
        "name": "tiny_sweep",
        "experiment": "tiny.yaml",
        "space": {
            "optim.lr": {"type": "log_float", "low": 1e-4, "high": 1e-1},
            f"{STRATEGY}.stochastic_depth": {"type": "float", "low": 0.0, "high": 0.9, "arms": ["residual_add"]},
            f"{STRATEGY}.l2_lambda": {"type": "zero_or_log", "low": 1e-6, "high": 1e-2, "arms": ["residual_add"]},
        },
        "objectives": [{"metric": "valid_target/macro_f1"}],
        "constraints": [{"metric": "valid_forgetting", "at_most": -0.02}],  # hardly met, so that trials are pruned
        "sampler": {"name": "tpe", "options": {"n_startup_trials": 3}},
        "pruner": {"name": "median", "options": {"n_startup_trials": 2, "n_warmup_steps": 1}},
        "budget": {"trials": 6},
        "search": {"lag": 2},
        "race": {"candidates": 2, "seeds": [1001, 1002]},
        "confirm": {"seeds": [0, 1], "rules": ["best", "constrained"]},
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False), encoding="utf-8")
    return path


def search_of(results: Path) -> SearchResult:
    """The search's points without what differs from run to run (seconds)."""
    content = json.loads((results / "search.json").read_text(encoding="utf-8"))
    for point in content["points"]:
        point["seconds"] = 0.0
    return SearchResult.model_validate(content)


def progress(results: Path) -> int:
    """Bytes in all logs and summaries of both phases."""
    paths = [*results.glob("*/*/log.jsonl"), *results.glob("*/*/summary.json")]
    return sum(path.stat().st_size for path in paths if path.exists())


def wait_for_news(process: Process, results: Path, num_news: int) -> None:
    """Until so many changes of the records were seen, or the process has ended."""
    seen, news = progress(results), 0
    deadline = time.monotonic() + 120
    while news < num_news and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
        now = progress(results)
        news, seen = news + (now != seen), now


def assert_same(one: Path, other: Path) -> None:
    """The same trials, pruned at the same epochs, the same winners, the same table."""
    assert search_of(one) == search_of(other)
    assert (one / "frozen.json").read_bytes() == (other / "frozen.json").read_bytes()
    assert (one / "table.md").read_bytes() == (other / "table.md").read_bytes()


def peaks_of(results: Path) -> list[dict[str, Any]]:
    """The lines on the peak memory of a sweep's launches."""
    return [json.loads(line) for line in (results / "memory.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def uninterrupted(tiny_text_files: TinyText, start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the sweep run in one go, once for all tests. Read them, never change them."""

    def make(folder: Path) -> None:
        path = write_sweep(tiny_text_files, folder)
        code, out, err = finish(start(*SWEEP, path, "--results", folder / "r"))
        assert (code, err) == (0, ""), out
        (peak,) = peaks_of(folder / "r" / "tiny_sweep")
        assert peak["jobs"] == 1 and peak["peak_mb"] > 100  # torch alone has that
        told = re.fullmatch(r"peak memory: (\d+) MB in 1 process \([a-z ]+ set size\)", out.splitlines()[-1].strip())
        assert told is not None and float(told[1]) == pytest.approx(peak["peak_mb"], abs=0.6)

    return made_once(tmp_path_factory, "uninterrupted_sweep", make) / "r" / "tiny_sweep"


def test_the_search_says_what_it_did(uninterrupted: Path) -> None:
    found = search_of(uninterrupted)
    assert [(p.arm, p.number) for p in found.points] == [
        (arm, number) for arm in ("head_only", "residual_add") for number in range(6)
    ]
    assert {p.state for p in found.points} == {"complete", "pruned"}  # the pruner had something to do
    assert any(p.epochs < 4 for p in found.points if p.state == "pruned")
    for record in (uninterrupted / "search").iterdir():
        summary = json.loads((record / "summary.json").read_text(encoding="utf-8"))
        assert not [name for name in summary["metrics"] if not name.startswith("trainable")]
        assert summary["by_domain"] == summary["base"] == {}
        assert not (record / "predictions.jsonl").exists()
    frozen = json.loads((uninterrupted / "frozen.json").read_text(encoding="utf-8"))
    assert set(frozen["arms"]) == {"head_only", "residual_add"}
    assert frozen["arms"]["residual_add"]["winners"]["best"]["seeds"] == 2  # the race's, without the search's
    manifest = json.loads((uninterrupted / "experiment.json").read_text(encoding="utf-8"))
    rows = list(manifest["arms"])
    assert rows[0] == "frozen"
    rules = [rule for row in rows[1:] for rule in row.partition("(")[2].rstrip(")").split(", ")]
    assert sorted(rules) == ["best", "best", "constrained", "constrained"]  # a row a winner, each rule once an arm
    assert "tuned with 6 trials" in (uninterrupted / "table.md").read_text(encoding="utf-8")


@pytest.mark.timeout(900)
def test_a_packed_sweep_killed_is_the_same(tiny_text_files: TinyText, start: Start, cli: Cli, tmp_path: Path) -> None:
    """Packs of three in one go; packs of two, then of four in two processes, each killed on the way."""
    path = write_sweep(tiny_text_files, tmp_path, budget={"trials": 4}, race={}, confirm={"seeds": [0]})
    whole = cli(*PACKED_SWEEP, "--pack", "3", path, "--results", tmp_path / "whole")
    assert (whole.code, whole.err) == (0, "")
    # Told before anything is trained.
    assert 0 < whole.out.index(": engine packed, up to 3 trials in one step\n") < whole.out.index("[1/")
    rng = random.Random(20261125)
    killed = tmp_path / "killed" / "tiny_sweep"
    command = [*PACKED_SWEEP, path, "--results", tmp_path / "killed"]
    hits = 0
    for options in (["--pack", "2"], ["--pack", "4", "--jobs", "2"]):
        process = start(*command, *options)
        wait_for_news(process, killed, rng.randint(2, 6))
        hits += process.poll() is None
        kill_group(process)
    assert hits == 2
    rest = cli(*command, "--pack", "2")
    assert (rest.code, rest.err) == (0, "")
    assert_same(killed, tmp_path / "whole" / "tiny_sweep")
    found = [json.loads(path.read_text(encoding="utf-8")) for path in killed.glob("search/*/provenance.json")]
    assert found and {record["execution"]["engine"] for record in found} == {"packed"}
    other = cli(*SWEEP, path, "--results", tmp_path / "killed")
    assert other.code == 2 and "was begun with engine packed" in other.error


@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGTERM, "2"), (signal.SIGTERM, "1"), (signal.SIGINT, "1")])
def test_a_sweep_that_is_asked_to_end_says_so_and_leaves_nothing_held(
    tiny_text_files: TinyText, start: Start, uninterrupted: Path, tmp_path: Path, number: signal.Signals, jobs: str
) -> None:
    path, results = write_sweep(tiny_text_files, tmp_path), tmp_path / "r" / "tiny_sweep"
    command = [*SWEEP, path, "--results", tmp_path / "r", "--jobs", jobs]
    asked = start(*command)
    wait_for_news(asked, results, 4)
    asked.send_signal(number)
    code, _, err = finish(asked)
    why = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert (code, err) == (128 + number, f"harness: {why}; run the same command again to go on from where it stopped\n")
    assert [*results.glob("*/*/.lease.*")] == []
    code, _, err = finish(start(*command))
    assert (code, err) == (0, "")
    assert_same(results, uninterrupted)
    left = {path.name for path in results.rglob(".*")}
    assert left <= {".lock"}, left


def test_two_processes_on_one_study(
    tiny_text_files: TinyText, start: Start, uninterrupted: Path, tmp_path: Path
) -> None:
    path = write_sweep(tiny_text_files, tmp_path)
    command = [*SWEEP, path, "--results", tmp_path / "both"]
    processes = [start(*command), start(*command, "--jobs", "2")]  # three that train
    for process in processes:
        code, _, err = finish(process)
        assert (code, err) == (0, "")
    assert_same(tmp_path / "both" / "tiny_sweep", uninterrupted)


def test_two_processes_on_one_postgresql_study(
    tiny_text_files: TinyText, start: Start, uninterrupted: Path, tmp_path: Path, postgres_database: str
) -> None:
    path = write_sweep(tiny_text_files, tmp_path, storage=postgres_database)
    command = [*SWEEP, path, "--results", tmp_path / "both"]
    processes = [start(*command), start(*command)]
    wait_for_news(processes[0], tmp_path / "both" / "tiny_sweep", 6)
    kill_group(processes[0])  # and one of them dies on the way
    code, _, err = finish(processes[1])
    assert (code, err) == (0, "")
    assert_same(tmp_path / "both" / "tiny_sweep", uninterrupted)


def test_more_budget_goes_on_with_the_same_trials(tiny_text_files: TinyText, cli: Cli, tmp_path: Path) -> None:
    path = write_sweep(tiny_text_files, tmp_path, race={}, confirm={"seeds": [0]})
    grown, once = tmp_path / "grown", tmp_path / "once"
    for results, trials in ((grown, 3), (grown, 6), (once, 6)):
        done = cli(*SWEEP, path, f"budget.trials={trials}", "--results", results)
        assert (done.code, done.err) == (0, "")
    # That the test set was looked at before, with the winners of fewer trials, is said under the table; that is all.
    lines = (grown / "tiny_sweep" / "table.md").read_text(encoding="utf-8").splitlines(keepends=True)
    looks = [line for line in lines if line.startswith("- launched earlier, and not in this table")]
    (grown / "tiny_sweep" / "table.md").write_text(
        "".join(line for line in lines if line not in looks), encoding="utf-8"
    )
    assert len(looks) <= 1
    assert_same(grown / "tiny_sweep", once / "tiny_sweep")


def test_a_finished_sweep_trains_nothing(
    tiny_text_files: TinyText, cli: Cli, uninterrupted: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "r" / "tiny_sweep"
    shutil.copytree(uninterrupted, copy)
    path = write_sweep(tiny_text_files, tmp_path)
    before = {file: file.stat().st_mtime_ns for file in copy.glob("*/*/*")}
    done = cli(*SWEEP, path, "--results", tmp_path / "r")
    assert (done.code, done.err) == (0, "")
    assert before == {file: file.stat().st_mtime_ns for file in copy.glob("*/*/*")}
    assert table_of(done.out)
    assert "peak memory" not in done.out and len(peaks_of(copy)) == 1  # nothing was trained: nothing to tell


def test_other_settings_are_another_study(
    tiny_text_files: TinyText, cli: Cli, uninterrupted: Path, tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted, tmp_path / "r" / "tiny_sweep")
    path = write_sweep(tiny_text_files, tmp_path, pruner={"name": "none"})
    refused = cli(*SWEEP, path, "--results", tmp_path / "r")
    assert refused.code == 2
    assert "begun with other settings (pruner.name: 'median' there, 'none' here)" in refused.error
