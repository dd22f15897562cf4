"""`harness verify`: every published rendering, down to the predictions; exit code 1 with the cell named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_tests.conftest import Cli, cli
from made_records import make_experiment, write_sentences

from harness.checks.verify import verify
from harness.records.store import RecordStore
from harness.tables.build import build_table
from harness.tables.render.formats import FORMATS, render

__all__ = ["cli"]


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    """A made-up experiment with its table in every format."""
    write_sentences(tmp_path / "sentences.jsonl")
    store = make_experiment(tmp_path / "results", tmp_path / "sentences.jsonl")
    table = build_table(store)
    for format in FORMATS:
        (store.path / FORMATS[format].file_name).write_text(render(table, format), encoding="utf-8")
    return store


def test_everything_holds(store: RecordStore, cli: Cli) -> None:
    result = cli("verify", "made")
    assert result.code == 0, result.err
    assert result.out.endswith("made: verified\n")
    for format in FORMATS:
        assert f"cells of {FORMATS[format].file_name}" in result.out
    assert "DRIFT" not in result.out


@pytest.mark.parametrize("format", FORMATS)
def test_one_digit_of_a_rendering_fails_with_its_cell(store: RecordStore, cli: Cli, format: str) -> None:
    """The digit is in the cell of `better` and target accuracy, in every format."""
    table = build_table(store)
    value = table.cell("better", "target_accuracy").value
    assert value is not None
    column = table.column("target_accuracy")
    full = {"json": repr(value), "csv": repr(value)}
    shown = full.get(format, f"{value:.{column.decimals}f}")
    changed = shown[:-1] + str((int(shown[-1]) + 1) % 10)
    path = store.path / FORMATS[format].file_name
    text = path.read_text(encoding="utf-8")
    assert shown in text
    # From the row of `better` on: other rows may show the same number.
    start = text.index("better", text.index("frozen") if format != "json" else 0)
    place = text.index(shown, start)
    path.write_text(text[:place] + changed + text[place + len(shown) :], encoding="utf-8")
    result = cli("verify", "made")
    assert result.code == 1
    assert "better x target_accuracy: " in result.error
    assert FORMATS[format].file_name in result.error


def test_one_digit_of_a_record_fails_with_its_cell(store: RecordStore, cli: Cli) -> None:
    trial_id = store.manifest().arms["better"][2]
    path = store.trial(trial_id).path / "summary.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["metrics"]["target_accuracy"] += 1e-4
    path.write_text(json.dumps(content), encoding="utf-8")
    result = cli("verify", "made")
    assert result.code == 1
    assert f"better x target_accuracy, seed 2 ({trial_id})" in result.out
    assert "better x target_accuracy: table.json has" in result.out  # the cells that stand on it


def test_records_by_two_versions_of_the_code_are_told_apart(store: RecordStore, cli: Cli) -> None:
    assert "made by" not in cli("verify", "made").out
    path = store.trial(store.manifest().arms["better"][2]).path / "provenance.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | {"git_commit": "d" * 40, "git_dirty": True}), encoding="utf-8")
    lines = cli("verify", "made").out.splitlines()
    made_by = [line.split(None, 2)[2] for line in lines if line.startswith("  made by")]
    number = sum(map(len, store.manifest().arms.values())) - 1
    version = content["harness_version"]
    assert made_by == [
        f"harness {version}, commit {'c' * 12}: {number} records",
        f"harness {version}, commit {'d' * 12} with changes: 1 record",
    ]


def test_a_changed_cost_is_found_by_its_digest(store: RecordStore, cli: Cli) -> None:
    trial_id = store.manifest().arms["better"][2]
    path = store.trial(trial_id).path / "summary.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"seconds": 1.5', '"seconds": 1.4'), encoding="utf-8")
    result = cli("verify", "made")
    assert result.code == 1
    assert f"better, seed 2 ({trial_id}): summary.json has SHA-256" in result.error


def test_an_invented_row_of_the_model_is_found(store: RecordStore) -> None:
    path = store.path / "table.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["rows"].append(content["rows"][0] | {"id": "invented"})
    path.write_text(json.dumps(content), encoding="utf-8")
    places = [drift.place for drift in verify(store.path.parent, "made").findings.drifts]
    assert places[0].startswith("invented x ")


def test_a_changed_footnote_of_the_model_is_found(store: RecordStore) -> None:
    path = store.path / "table.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["footnotes"] = []
    path.write_text(json.dumps(content), encoding="utf-8")
    (drift,) = verify(store.path.parent, "made").findings.drifts
    assert (drift.place, "footnotes" in drift.message) == ("table.json", True)


@pytest.mark.parametrize("text", ["{", "[]", '{"name": 3}'])
def test_a_corrupt_model_is_a_drift(store: RecordStore, text: str) -> None:
    (store.path / "table.json").write_text(text, encoding="utf-8")
    (drift,) = verify(store.path.parent, "made").findings.drifts
    assert drift.place == "table.json"


def test_no_rendering_is_told(store: RecordStore) -> None:
    for format in FORMATS:
        (store.path / FORMATS[format].file_name).unlink()
    reasons = verify(store.path.parent, "made").findings.unchecked
    assert any(all(format.file_name in reason for format in FORMATS.values()) for reason in reasons)


def test_unknown_name(store: RecordStore, cli: Cli) -> None:
    result = cli("verify", "mad")
    assert result.code == 2
    assert result.error == "no results of 'mad' in results; choices: made. Did you mean made?"


def test_nothing_finished(tmp_path: Path, cli: Cli) -> None:
    write_sentences(tmp_path / "sentences.jsonl")
    store = make_experiment(tmp_path / "results", tmp_path / "sentences.jsonl")
    shutil.rmtree(store.path / "records")
    result = cli("verify", "made")
    assert result.code == 2
    assert "no trial of made is finished" in result.error


def test_a_trained_sweep_is_verified(tiny_results: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(tiny_results / "tiny_sweep", tmp_path / "results" / "tiny_sweep")
    result = cli("verify", "tiny_sweep")
    assert result.code == 0, result.err
    for what in ("winners follow from the named rules", "confirmed rows are the winners", "cells of table.md"):
        assert what in result.out


def test_a_sweep_before_its_confirm_phase(tiny_results: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(tiny_results / "tiny_sweep", tmp_path / "results" / "tiny_sweep")
    for name in ("experiment.json", "frozen.json", "digests.json"):  # digests are taken at the end
        (tmp_path / "results" / "tiny_sweep" / name).unlink()
    result = cli("verify", "tiny_sweep")
    assert result.code == 0, result.err
    assert "winners: none is chosen yet" in result.out
