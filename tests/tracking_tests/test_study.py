"""A finished sweep as trackers show it, and its run on W&B."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.records.store import RecordStore
from harness.tables.build import build_table
from harness.tracking.study import ablation_rows, read_study, search_rows
from harness.tracking.wandb_tracker import WandbTracker

from .local_records import KEY, RESULT, write_sweep
from .transaction_log import read_finished_run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_sweep(tmp_path)


def test_on_wandb(path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    study = read_study(path.parent, "sweep")
    assert study is not None
    for _ in range(2):
        WandbTracker(path).show_study(study)
    (log,) = path.glob("wandb/offline-run-*/run-*.wandb")  # one run, the newest
    run = read_finished_run(log)
    assert (run.group, run.job_type, run.tags) == ("sweep", "study", ("complete",))
    assert run.run_id == study.run_id and run.run_id.startswith("study-")
    assert run.config["space"] == {KEY: {"type": "log_float", "low": 1e-4}}
    assert run.config["frozen"]["arms"]["l2"]["winners"]["best"]["trial"] == 0
    kinds = {key: run.summary[f"{key}/_type"] for key in ("ablation", "search", "figures/front")}
    assert kinds == {"ablation": "table-file", "search": "table-file", "figures/front": "image-file"}
    assert (run.summary["ablation/nrows"], run.summary["search/nrows"]) == (2, 3)
    (file,) = log.parent.glob("files/media/table/ablation*.json")
    assert json.loads(file.read_text())["data"] == study.tables["ablation"][1]
    assert capfd.readouterr() == ("", "")


def test_an_experiment_is_no_study(path: Path) -> None:
    (path / "frozen.json").unlink()
    assert read_study(path.parent, "sweep") is None


def test_ablation_table(path: Path) -> None:
    names, rows = ablation_rows(build_table(RecordStore(path.parent, "sweep")))
    assert names[:5] == ["arm", "n", "target_accuracy mean", "target_accuracy sd", "target accuracy (%) ↑"]
    by_arm = {row[0]: row[1:5] for row in rows}
    assert by_arm["frozen"] == [1, pytest.approx(60.0), None, "60.0"]
    assert by_arm["l2"] == [2, pytest.approx(60.5), pytest.approx(0.5**0.5), "60.5 ± 0.7"]


def test_search_points() -> None:
    names, rows = search_rows(RESULT)
    assert names == [
        *("arm", "number", "state", "reason", "feasible", "epochs", "seconds"),
        "valid_target_accuracy",
        KEY,
    ]
    assert [row[:4] + row[7:] for row in rows] == [
        ["l2", 0, "complete", None, 0.5, 0.1],
        ["l2", 1, "pruned", None, None, 0.0],
        ["l2", 2, "failed", "nan", None, 1.0],
    ]
    assert [row[4] for row in rows] == [True, None, None]  # what was stopped or failed is not known to be feasible
