"""A trial is trained again from its record: the same bits here, a drift where the record says something else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_tests.conftest import Cli, cli
from made_records import age_results

from harness.records.schema import Record
from harness.records.store import RecordStore

pytestmark = pytest.mark.slow

__all__ = ["cli"]


@pytest.fixture
def store(tiny_results: Path, tmp_path: Path) -> RecordStore:
    shutil.copytree(tiny_results / "tiny_strategies", tmp_path / "results" / "tiny_strategies")
    return RecordStore(tmp_path / "results", "tiny_strategies")


def test_the_same_bits(store: RecordStore, cli: Cli) -> None:
    result = cli("verify", "tiny_strategies", "--retrain", "--cell", "residual_add/1")
    assert result.code == 0, result.err
    assert "packages and processor are the same" in result.out
    assert "target_macro_f1: " in result.out and "(the same)" in result.out
    assert "predictions: " in result.out


def edit_record(store: RecordStore, name: str, key: str, value: object) -> str:
    """Change a number of residual_add/1 everywhere that `verify` could tell without training."""
    trial_id = store.manifest().arms["residual_add"][1]
    path = store.trial(trial_id).path / name
    content = json.loads(path.read_text(encoding="utf-8"))
    content[key] = {**content[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(content), encoding="utf-8")
    return trial_id


def test_a_number_that_training_does_not_give(store: RecordStore, cli: Cli) -> None:
    trial_id = edit_record(store, "summary.json", "metrics", {"trainable_share": 0.5})
    result = cli("verify", "tiny_strategies", "--retrain", "--cell", "residual_add/1")
    assert result.code == 1
    cell = f"residual_add x trainable_share, seed 1 ({trial_id})"
    assert f"DRIFT {cell}: the record has 0.5, training again gives" in result.out


def test_a_trial_in_which_something_learns_is_chosen(store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of several seeds counts once; where nothing learns at all, it is that one."""
    from harness.checks import retraining

    offered: list[list[str]] = []

    def choose(found: list[tuple[object, Record]]) -> tuple[object, Record]:
        offered.append([record.trial_id for _, record in found])
        return found[0]

    monkeypatch.setattr("harness.checks.retraining.secrets.choice", choose)
    results, name = store.path.parent, store.name
    for cell in (None, "frozen"):
        retraining.choose_trial(results, name, cell)
    arms = store.manifest().arms
    learning = {i for arm, seeds in arms.items() if arm != "frozen" for i in seeds.values()}
    assert sorted(offered[0]) == sorted(learning)
    assert sorted(offered[1]) == sorted(set(arms["frozen"].values()))


@pytest.mark.parametrize(("tolerance", "code"), [("0.9", 0), ("0.001", 1)])
def test_elsewhere_a_tolerance_is_allowed(store: RecordStore, cli: Cli, tolerance: str, code: int) -> None:
    from harness.checks.record_checks import Place
    from harness.checks.retraining import choose_trial, compare_with_record

    edit_record(store, "provenance.json", "packages", {"torch": "1.0"})
    place, record = choose_trial(store.path.parent, "tiny_strategies", "residual_add/1")
    assert isinstance(place, Place)
    moved = record.summary.model_copy(
        update={"metrics": record.summary.metrics | {"forgetting": record.summary.metrics["forgetting"] + 0.01}}
    )
    found = compare_with_record(place, record, moved, float(tolerance))
    assert found.report[0].startswith("packages or processor differ (torch 1.0 -> ")
    assert bool(found.drifts) == bool(code)


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ("nope/0", "--cell 'nope/0': no arm 'nope'; choices: frozen, head_only, residual_add"),
        ("residual_add/7", "--cell 'residual_add/7': residual_add has no seed 7; choices: 0, 1"),
        ("residual_add/x", "--cell 'residual_add/x': expected ROW or ROW/SEED, as in frozen/0"),
    ],
)
def test_wrong_cells(store: RecordStore, cli: Cli, cell: str, line: str) -> None:
    result = cli("verify", "tiny_strategies", "--retrain", "--cell", cell)
    assert (result.code, result.error) == (2, line)


def test_a_cell_without_retraining(store: RecordStore, cli: Cli) -> None:
    result = cli("verify", "tiny_strategies", "--cell", "residual_add/0")
    assert result.code == 2
    assert "add --retrain" in result.error


def test_data_that_has_changed(store: RecordStore, cli: Cli) -> None:
    edit_record(store, "provenance.json", "corpus_fingerprint", "0" * 64)
    result = cli("verify", "tiny_strategies", "--retrain", "--cell", "residual_add/1")
    assert result.code == 2
    assert "made with corpus 000000000000" in result.error


def test_a_record_of_an_older_version_is_not_trained_again(store: RecordStore, cli: Cli) -> None:
    """It would choose its epoch by other validation sets, and every number would differ."""
    age_results(store.path)
    result = cli("verify", "tiny_strategies", "--retrain", "--cell", "residual_add/1")
    assert result.code == 2
    assert "validation was the head of the file" in result.error and "cannot be repeated" in result.error
