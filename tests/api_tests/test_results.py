"""`harness.table`, `harness.load_records` and `harness.verify` on the published results."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import harness
from harness.records.store import RecordStore
from harness.tables.build import build_table

RESULTS = Path(__file__).resolve().parents[2] / "results"
NAME, SWEEP = "text_strategies", "text_depth_x_l2"


@pytest.fixture(scope="module")
def made() -> harness.ResultTable:
    return harness.table(NAME, results=RESULTS)


def test_a_table_is_the_commands(made: harness.ResultTable) -> None:
    assert made.model == build_table(RecordStore(RESULTS, NAME))
    assert made.render("md") == (RESULTS / NAME / "table.md").read_text(encoding="utf-8")
    assert made.rows[0] == "frozen" and made.columns[0] == "target_macro_f1"
    frame = made.to_frame()
    assert list(frame.index) == list(made.rows)
    cell = made.cell("residual_add", "target_macro_f1")
    assert made.cell("residual add", "target macro F1") is cell  # as the table shows them
    assert frame.loc["residual_add", "target_macro_f1"] == cell.value == pytest.approx(49.0, abs=0.05)  # percent


def test_how_a_table_is_shown(made: harness.ResultTable) -> None:
    assert str(made) == made.render("terminal") and "residual_add" in str(made)
    assert made._repr_html_().startswith("<figure") and "<style" not in made._repr_html_()


@pytest.mark.parametrize(
    ("row", "column", "told"),
    [
        ("nobody", "target_macro_f1", ["no row 'nobody'", "frozen, head_only"]),
        ("frozen", "target_wer", ["no column 'target_wer'", "target_macro_f1, target_accuracy"]),
    ],
)
def test_a_cell_that_is_not_there(made: harness.ResultTable, row: str, column: str, told: list[str]) -> None:
    with pytest.raises(harness.UserError) as caught:
        made.cell(row, column)
    assert "\n" not in str(caught.value) and all(part in str(caught.value) for part in told)


def test_other_columns_settings_and_files(tmp_path: Path) -> None:
    assert harness.table(NAME, results=RESULTS, metrics=["target_accuracy"]).columns == ("target_accuracy",)
    with pytest.raises(harness.UserError, match=r"metrics='target_accuracy': expected a list, as metrics=\['target_a"):
        harness.table(NAME, results=RESULTS, metrics="target_accuracy")
    settings: dict[str, Any] = {"arms": ["residual_add", "frozen"], "baseline": "frozen"}
    assert harness.table(NAME, results=RESULTS, settings=settings).rows == ("residual_add", "frozen")
    (tmp_path / "two.yaml").write_text(json.dumps({"name": "two", "experiments": [NAME], **settings}), encoding="utf-8")
    made = harness.table(str(tmp_path / "two.yaml"), results=RESULTS)
    assert (made.model.name, made.rows) == ("two", ("residual_add", "frozen"))


def test_records_are_rows() -> None:
    records = harness.load_records(NAME, results=RESULTS)
    assert isinstance(records, pd.DataFrame) and len(records) == 40
    one = records[(records["arm"] == "residual_add") & (records["seed"] == 3)].iloc[0]
    record = RecordStore(RESULTS, NAME).trial(one["trial_id"]).record()
    assert record is not None
    assert one["target_macro_f1"] == record.summary.metrics["target_macro_f1"]  # a fraction, as recorded
    assert one["seconds"] == record.summary.costs["seconds"]
    assert one["adapter.adapter_strategy.l2_lambda"] == record.config["adapter"]["adapter_strategy"]["l2_lambda"]
    assert (one["state"], one["phase"], one["row"]) == ("complete", "confirm", "residual_add")
    assert "data.corpus" not in records and records["train"].nunique() > 1  # settings that differ, and no others


def test_records_of_a_sweep() -> None:
    records = harness.load_records(SWEEP, NAME, results=RESULTS)
    assert list(records["experiment"].unique()) == [SWEEP, NAME]
    confirmed = records[(records["experiment"] == SWEEP) & (records["phase"] == "confirm")]
    pairs = set(zip(confirmed["arm"], confirmed["row"], strict=True))
    assert {("frozen", "frozen"), ("residual_add", "residual_add (constrained)")} < pairs
    searched = harness.load_records(SWEEP, results=RESULTS, phase="search")
    assert set(searched["phase"]) == {"search"} and "target_macro_f1" not in searched


@pytest.mark.parametrize("call", [harness.table, harness.load_records, harness.verify])
def test_no_such_results(call: Any) -> None:
    with pytest.raises(harness.UserError, match=rf"'nobody' in .*choices: .*{NAME}"):
        call("nobody", results=RESULTS)


@pytest.mark.parametrize("call", [harness.table, harness.load_records])
def test_no_name_at_all(call: Any) -> None:
    with pytest.raises(harness.UserError, match=NAME):
        call(results=RESULTS)


def test_a_wrong_phase_format_or_setting(made: harness.ResultTable) -> None:
    with pytest.raises(harness.UserError, match="'now'; choices: confirm, search"):
        harness.load_records(NAME, results=RESULTS, phase="now")
    with pytest.raises(harness.UserError, match=r"'doc'.*md"):
        made.render("doc")
    with pytest.raises(harness.UserError, match=r"alpha.*'x'"):
        harness.table(NAME, results=RESULTS, settings={"alpha": "x"})


def test_what_drifted_is_an_error(tiny_results: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_results / "tiny_strategies", tmp_path / "tiny_strategies")
    store = RecordStore(tmp_path, "tiny_strategies")
    path = store.trial(store.manifest().arms["residual_add"][0]).path / "summary.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["metrics"]["target_macro_f1"] += 0.01
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(harness.TrialError, match=r"drift: residual_add, seed 0 .*and 4 more") as caught:
        harness.verify("tiny_strategies", results=tmp_path)
    assert caught.value.reason == "drift"
    drifts = harness.verify("tiny_strategies", results=tmp_path, check=False).findings.drifts
    assert any("residual_add x target_macro_f1, seed 0" in str(drift) for drift in drifts)


def test_importing_is_cheap_and_names_are_known() -> None:
    code = (
        "import sys, harness; assert set(harness.__all__) <= set(dir(harness));"
        "assert not {'torch', 'pandas', 'yaml', 'pydantic', 'harness.api'} & set(sys.modules);"
        "harness.table, harness.run; assert not {'torch', 'pandas', 'optuna', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(AttributeError, match=r"'sweeps'.*run_sweep"):
        harness.sweeps  # noqa: B018
