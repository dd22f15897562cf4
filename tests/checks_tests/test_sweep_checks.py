"""A trained sweep is verified from its folder alone; whatever is planted into it is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.checks.findings import Findings
from harness.checks.sweep_checks import check_sweep
from harness.records.store import RecordStore


@pytest.fixture
def store(tiny_results: Path, tmp_path: Path) -> RecordStore:
    shutil.copytree(tiny_results / "tiny_sweep", tmp_path / "tiny_sweep")
    return RecordStore(tmp_path, "tiny_sweep")


def findings_of(store: RecordStore) -> Findings:
    return check_sweep(store.path, store.manifest())


def change(path: Path, edit: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def complete_point(content: Any) -> Any:
    """The point of search.json that was raced and won."""
    return next(point for point in content["points"] if point["state"] == "complete")


def test_an_untouched_sweep_holds(store: RecordStore) -> None:
    found = findings_of(store)
    assert found.drifts == []
    for what in (
        "search records hold no test number",
        "searched settings are those of the records",
        "search trials have the validation metrics of their records",
        "the race leaves the same trials",
        "winners follow from the named rules",
        "contenders were judged as frozen.json says",
        "confirmed rows are the winners",
        "every arm has its whole budget",
        "files have their recorded SHA-256",
    ):
        assert found.held[what] > 0, what
    assert found.held["winners follow from the named rules"] == 2


def test_another_winner_is_found(store: RecordStore) -> None:
    def swap(content: Any) -> None:
        arm = content["arms"]["residual_add"]
        won = arm["winners"]["best"]["trial"]
        other = next(c for c in arm["raced"] if c["trial"] != won)
        arm["winners"]["best"] |= {"trial": other["trial"], "params": other["params"]}

    change(store.path / "frozen.json", swap)
    assert "frozen.json, residual_add, rule best" in [drift.place for drift in findings_of(store).drifts]


def test_a_changed_digit_of_a_frozen_setting_is_found(store: RecordStore) -> None:
    def edit(content: Any) -> None:
        content["arms"]["residual_add"]["winners"]["one_se"]["params"]["optim.lr"] *= 1.0001

    change(store.path / "frozen.json", edit)
    assert [drift.place for drift in findings_of(store).drifts] == ["frozen.json, residual_add, rule one_se"]


def test_a_changed_validation_score_is_found(store: RecordStore) -> None:
    def edit(content: Any) -> None:
        point = complete_point(content)
        point["valid"]["valid_target/loss"] += 1e-6
        point["values"][0] += 1e-6

    change(store.path / "search.json", edit)
    drifts = findings_of(store).drifts
    assert any(drift.place.startswith("search.json, residual_add, trial") for drift in drifts)


def test_other_seeds_that_judge_are_found(store: RecordStore) -> None:
    change(store.path / "frozen.json", lambda content: content["judged_by"].update(seeds=[1000, 1001]))
    assert any("judged_by is" in drift.message for drift in findings_of(store).drifts)


def test_winners_of_an_older_sweep_were_judged_by_the_means_over_all_seeds(store: RecordStore) -> None:
    """A frozen.json without `judged_by`: the seed of the search counted, so these winners' means are others."""
    change(store.path / "frozen.json", lambda content: content.pop("judged_by"))
    drifts = [str(drift) for drift in findings_of(store).drifts]
    assert drifts and all("winners" in drift or "frozen.json, residual_add, rule" in drift for drift in drifts)


def test_a_changed_state_is_found(store: RecordStore) -> None:
    def edit(content: Any) -> None:
        point = next(p for p in content["points"] if p["state"] == "pruned")
        point["state"] = "failed"

    change(store.path / "search.json", edit)
    assert any("its records are pruned" in drift.message for drift in findings_of(store).drifts)


def test_a_lost_trial_is_found(store: RecordStore) -> None:
    change(store.path / "search.json", lambda content: content["points"].pop())
    places = [drift.place for drift in findings_of(store).drifts]
    assert "search.json, residual_add" in places


def test_a_test_number_in_the_search_is_found(store: RecordStore) -> None:
    point = complete_point(json.loads((store.path / "search.json").read_text(encoding="utf-8")))
    path = store.path / "search" / point["trial_ids"][0] / "summary.json"
    change(path, lambda content: content["metrics"].update(target_accuracy=0.9))
    assert any("it holds test data" in drift.message for drift in findings_of(store).drifts)


def test_test_predictions_in_the_search_are_found(store: RecordStore) -> None:
    point = complete_point(json.loads((store.path / "search.json").read_text(encoding="utf-8")))
    (store.path / "search" / point["trial_ids"][0] / "predictions.jsonl").write_text("{}\n", encoding="utf-8")
    assert any("predictions.jsonl" in drift.message for drift in findings_of(store).drifts)


def test_a_row_that_is_not_the_winner_is_found(store: RecordStore) -> None:
    def edit(content: Any) -> None:
        row = next(name for name in content["arms"] if name.startswith("residual_add"))
        content["arms"][row]["0"] = "0" * 12

    change(store.path / "experiment.json", edit)
    drifts = findings_of(store).drifts
    assert any(drift.place.startswith("experiment.json, residual_add") for drift in drifts)


def test_a_missing_search_record_is_found(store: RecordStore) -> None:
    point = complete_point(json.loads((store.path / "search.json").read_text(encoding="utf-8")))
    shutil.rmtree(store.path / "search" / point["trial_ids"][0])
    assert any("no finished record there" in drift.message for drift in findings_of(store).drifts)
