"""Launches: a second one, two at once, and one with code of the user's own in several processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_tests.conftest import Cli
from tiny_text import TinyText

from .conftest import Start, determined, finish, num_starts, table_of

pytestmark = pytest.mark.slow

NAME = "tiny_strategies"

GATED = '''
"""A strategy of the user's own: the adapter's output is scaled."""

import os
from pathlib import Path

from harness.adapters import AbstractAdapterStrategy


class Gated(AbstractAdapterStrategy):
    def __init__(self, gate: float = 0.5) -> None:
        self.gate = gate

    def forward(self, input, adapter, *, module):
        Path(f"pid-{os.getpid()}").touch()
        return input + self.gate * adapter(input)
'''


def test_a_second_launch_trains_nothing(cli: Cli, tiny_text_files: TinyText, tmp_path: Path) -> None:
    first = cli("run", tiny_text_files.experiment)
    assert first.code == 0 and first.err == ""
    records = tmp_path / "results" / NAME / "records"
    watched = {
        path: path.stat().st_mtime_ns for path in records.rglob("*") if path.name in ("summary.json", "starts.jsonl")
    }
    assert len(watched) == 10  # two of each trial; frozen has one for both seeds
    second = cli("run", tiny_text_files.experiment)
    assert second.code == 0 and second.err == ""
    assert second.out.splitlines()[0] == f"{NAME}: 6 trials (5 distinct), 5 finished, 0 to train"
    assert {path: path.stat().st_mtime_ns for path in watched} == watched
    assert table_of(second.out) == table_of(first.out)


def test_two_launches_at_once_train_each_trial_once(start: Start, tiny_text_files: TinyText, tmp_path: Path) -> None:
    processes = [start("run", tiny_text_files.experiment, "--wandb", "off") for _ in range(2)]
    ended = [finish(process) for process in processes]
    assert [(code, err) for code, _, err in ended] == [(0, "")] * 2
    results = tmp_path / "results" / NAME
    starts = num_starts(results)
    assert len(starts) == 5 and set(starts.values()) == {1}
    assert table_of(ended[0][1]) == table_of(ended[1][1])
    assert all(found["summary"]["state"] == "complete" for found in determined(results).values())


def test_a_users_strategy_in_two_processes(start: Start, tiny_text_files: TinyText, tmp_path: Path) -> None:
    """From a module beside the experiment file, which is in another folder than the one where the command runs."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "mystrategies.py").write_text(GATED, encoding="utf-8")
    strategy = {"_target_": "mystrategies.Gated", "gate": 0.25}
    experiment = tiny_text_files.write_experiment(
        folder / "gated.yaml",
        name="gated",
        arms={"residual_add": {}, "gated": {"adapter": {"adapter_strategy": strategy}}},
        table={},
    )
    code, out, err = finish(start("run", experiment, "--jobs", "2", "--wandb", "off"))
    assert (code, err) == (0, "")
    assert "4 trials, 0 finished, 4 to train" in out
    found = determined(tmp_path / "results" / "gated")
    assert [trial["summary"]["state"] for trial in found.values()] == ["complete"] * 4
    assert len({str(trial["log"]) for trial in found.values()}) == 4
    # Preflight in the command's own process, training in those of its workers.
    assert len(list(tmp_path.glob("pid-*"))) >= 2
