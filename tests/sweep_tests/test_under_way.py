"""Launches of one sweep at one time: with one plan they share the work, with two plans the later one is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_tests.conftest import Cli, cli
from sweeps_by_hand import write_sweep
from tiny_text import TinyText

import harness
from harness.errors import TrialError
from harness.launch import run_experiment as launching
from harness.launch.run_experiment import RunPlan, RunReport
from harness.records.leases import take
from harness.search.sweep_files import load_sweep
from harness.sweep.under_way import under_way
from harness.sweep.workers import PLAN

__all__ = ["cli"]


@pytest.fixture
def by_hand(tmp_path: Path, tiny_text_files: TinyText) -> Path:
    """A sweep of two points."""
    few = {"space": {"optim.lr": {"type": "log_float", "low": 1e-3, "high": 1e-1}}, "arms": ["residual_add"]}
    return write_sweep(tiny_text_files.experiment, tmp_path, {**few, "budget": {"trials": 2}})


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_launch_with_another_plan_is_refused_while_one_runs(cli: Cli, by_hand: Path) -> None:
    """It is one line and exit code 1, and no byte of the first one's results is another."""
    name = ("name=by_hand",)  # else the override gives it a suffix
    results = Path("results")
    assert cli("sweep", by_hand).code == 0
    with under_way(load_sweep(by_hand), results):
        before = files_of(results)
        for change in ("budget.trials=1", "confirm.seeds=[0]", "race.seeds=[7]"):
            for command in ("work", "sweep"):
                done = cli(command, by_hand, change, *name)
                assert done.code == 1
                assert "is at this sweep with another budget, race or confirm phase" in done.error
            with pytest.raises(TrialError, match="is at this sweep with another budget"):
                harness.run_sweep(by_hand, [change, *name], results=results)
        assert files_of(results) == before


def test_launches_of_one_plan_share_the_work(cli: Cli, by_hand: Path) -> None:
    with under_way(load_sweep(by_hand), Path("results")):
        assert cli("work", by_hand).code == 0
        assert cli("sweep", by_hand, "launcher=in_process").code == 0
    assert not list(Path("results/by_hand").glob(f".{PLAN}*"))


def test_a_plan_whose_launch_was_killed_holds_nobody_up(cli: Cli, by_hand: Path) -> None:
    """What it has left is taken away."""
    folder = Path("results/by_hand")
    lease = take(folder, f"{PLAN}0123456789ab-dead")
    assert lease is not None
    told = json.loads(lease.path.read_text(encoding="utf-8"))
    lease.release()
    lease.path.write_text(json.dumps({**told, "pid": 2**22 + 1}), encoding="utf-8")
    assert cli("sweep", by_hand).code == 0
    assert not list(folder.glob(f".{PLAN}*"))


def test_no_table_of_somebody_else_is_shown(cli: Cli, by_hand: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch that cannot be seen (an older version, a lost lease) has written its own manifest meanwhile."""
    train = launching.run_experiment

    def and_be_overwritten(plan: RunPlan, *others: object) -> RunReport:
        report = train(plan, *others)  # type: ignore[arg-type]
        path = plan.store.path / "experiment.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["arms"]["residual_add"].popitem()
        path.write_text(json.dumps(content), encoding="utf-8")
        return report

    monkeypatch.setattr(launching, "run_experiment", and_be_overwritten)
    done = cli("sweep", by_hand)
    assert done.code == 1
    assert "has written its own winners there meanwhile" in done.error
    assert not Path("results/by_hand/table.md").exists()
