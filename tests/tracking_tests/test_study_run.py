"""The study-level run: what lands in the transaction log, and that its failures are one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.records.store import RecordStore
from harness.tables.build import build_table
from harness.tracking.client import SERVER
from harness.tracking.local_runs import read_local_runs
from harness.tracking.study_run import ablation_rows, log_study, make_study, search_rows

from .local_records import KEY, RESULT, write_sweep
from .transaction_log import read_finished_run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_sweep(tmp_path)


def arguments(path: Path) -> dict[str, Any]:
    frozen = json.loads((path / "frozen.json").read_text())
    figures = sorted((path / "figures").glob("*.png"))
    table = build_table(RecordStore(path.parent, "sweep"))
    return {
        "name": "sweep",
        "space": frozen["space"],
        "result": RESULT,
        "table": table,
        "figures": figures,
        "frozen": frozen,
    }


def test_offline(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    complaints: list[str] = []
    log_study(path, "offline", **arguments(path), complain=complaints.append)
    assert complaints == []
    (log,) = path.glob("wandb/offline-run-*/run-*.wandb")
    run = read_finished_run(log)
    assert (run.group, run.job_type, run.tags) == ("sweep", "study", ("complete",))
    assert run.run_id == make_study(**arguments(path)).run_id
    assert run.run_id.startswith("study-")
    assert run.config["space"] == {KEY: {"low": 1e-4}}
    assert run.config["frozen"]["arms"]["l2"]["winners"] == {"trial": 0}
    kinds = {key: run.summary[f"{key}/_type"] for key in ("ablation", "search", "figures/front")}
    assert kinds == {"ablation": "table-file", "search": "table-file", "figures/front": "image-file"}
    assert (run.summary["ablation/nrows"], run.summary["search/nrows"]) == (2, 3)
    (file,) = log.parent.glob("files/media/table/ablation*.json")
    table = json.loads(file.read_text())
    assert table["data"] == ablation_rows(build_table(RecordStore(path.parent, "sweep")))[1]
    assert capfd.readouterr() == ("", "")


def test_twice_leaves_one_run(path: Path) -> None:
    for _ in range(2):
        log_study(path, "offline", **arguments(path))
    assert len(list(path.glob("wandb/offline-run-*"))) == 1


def test_ablation_table(path: Path) -> None:
    names, rows = ablation_rows(build_table(RecordStore(path.parent, "sweep")))
    assert names[:5] == ["arm", "n", "target_accuracy mean", "target_accuracy sd", "target accuracy (%) ↑"]
    by_arm = {row[0]: row[1:5] for row in rows}
    assert by_arm["frozen"] == [1, pytest.approx(60.0), None, "60.0"]
    assert by_arm["l2"] == [2, pytest.approx(60.5), pytest.approx(0.5**0.5), "*60.5 ± 0.7"]


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


def test_without_search_and_table(path: Path) -> None:
    nothing: dict[str, Any] = {"result": None, "table": None, "figures": [], "frozen": {}}
    complaints: list[str] = []
    log_study(path, "offline", name="sweep", space={}, **nothing, complain=complaints.append)
    assert complaints == []


def test_sync_shows_the_same(path: Path) -> None:
    """The study that `harness sync` reads from disk is the one that the sweep logs."""
    study = read_local_runs(path.parent, "sweep").study
    assert study is not None
    assert study.content == make_study(**arguments(path)).content


def test_a_failure_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**settings: Any) -> None:
        raise RuntimeError("no service\nand a second line")

    monkeypatch.setattr("wandb.init", refuse)
    complaints: list[str] = []
    log_study(path, "online", **arguments(path), complain=complaints.append)
    assert complaints == [
        "wandb failed: RuntimeError: no service; the study's files are complete; `harness sync sweep` sends it"
    ]
    assert SERVER.mode("online") == "offline"
    SERVER.try_again()
    log_study(path, "offline", **(arguments(path) | {"figures": [path / "missing.png"]}), complain=complaints.append)
    assert len(complaints) == 2
