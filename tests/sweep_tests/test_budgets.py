"""A smaller budget after a greater one: the table tells of both, and the status counts what belongs to the sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_tests.conftest import Cli, cli
from sweeps_by_hand import write_sweep
from tiny_text import TinyText

from harness.sweep.status import read_status

__all__ = ["cli"]

TOLD = "launched earlier with 3 trials, whose results were seen"


@pytest.mark.slow
def test_a_smaller_budget_after_a_greater_one_is_told(cli: Cli, tmp_path: Path, tiny_text_files: TinyText) -> None:
    few = {"space": {"optim.lr": {"type": "log_float", "low": 1e-3, "high": 1e-1}}, "arms": ["residual_add"]}
    file = write_sweep(tiny_text_files.experiment, tmp_path, {**few, "budget": {"trials": 3}})
    folder = Path("results/by_hand")
    assert cli("sweep", file).code == 0
    assert TOLD not in (folder / "table.md").read_text(encoding="utf-8")

    assert cli("sweep", file, "budget.trials=2").code == 0
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert TOLD in table and "was tuned with 2 trials" in table
    launches = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))["launches"]
    assert [launch["budget"] for launch in launches] == [{"trials": 3}, {"trials": 2}]
    status = read_status("by_hand", folder.parent)
    assert [(arm.num_finished, arm.planned) for arm in status.arms] == [(2, 2)]
    assert status.arms[0].best is not None and status.arms[0].best.number < 2
    verified = cli("verify", "by_hand")
    assert verified.code == 0, verified.err

    before = (folder / "experiment.json").read_bytes()
    assert cli("sweep", file, "budget.trials=2").code == 0
    assert (folder / "experiment.json").read_bytes() == before
    assert cli("sweep", file).code == 0  # the greater one again: nothing is left to tell
    assert TOLD not in (folder / "table.md").read_text(encoding="utf-8")
