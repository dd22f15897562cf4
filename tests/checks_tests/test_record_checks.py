"""Every check of a record can fail: one digit is planted, and its cell is named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_records import make_experiment, write_sentences
from trial_configs import MakeConfig

from harness.checks.findings import Findings
from harness.checks.record_checks import Place, check_parameters, check_record
from harness.checks.verify import check_bases, check_records
from harness.config.trees import merge
from harness.records.store import RecordStore
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun
from harness.tasks.references import ReferenceShelf
from harness.training.resources import Resources
from harness.training.run_trial import run_trial


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    write_sentences(tmp_path / "sentences.jsonl")
    return make_experiment(tmp_path / "results", tmp_path / "sentences.jsonl")


def findings_of(store: RecordStore) -> Findings:
    found = Findings()
    records = check_records(store, store.manifest(), ReferenceShelf(), found)
    check_bases(records, found)
    return found


def without_digests(store: RecordStore) -> None:
    """Make the records as old as those that have no digests, so that only the numbers tell."""
    for path in store.path.glob("records/*/provenance.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        for name in ("files", "user_code", "config_version"):
            del content[name]
        path.write_text(json.dumps(content), encoding="utf-8")


def change(store: RecordStore, arm: str, seed: int, file: str, edit: Callable[[Any], None]) -> str:
    """Edit a JSON file of a record; its trial's id."""
    trial_id = store.manifest().arms[arm][seed]
    path = store.trial(trial_id).path / file
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    return trial_id


def test_untouched_records_hold(store: RecordStore) -> None:
    found = findings_of(store)
    assert found.drifts == []
    for what, at_least in {
        "trial ids are the hash of their config": 9,
        "seeds are those of the table": 9,
        "files have their recorded SHA-256": 9 * 4,
        "metrics follow from the scores by domain": 9 * 6,
        "scores by domain follow from the predictions": 9 * 4,
        "every test item has a prediction": 9 * 2,
        "references and groups of test items are the corpus's": 9 * 2,
        "base model's scores are the same in all records": 9 * 4,
        "parameter counts are those of the adapters": 9,
        "epochs and validation metrics are those of the log": 9,
    }.items():
        assert found.held[what] >= at_least, what


def test_old_records_without_digests_still_load_and_hold(store: RecordStore) -> None:
    without_digests(store)
    found = findings_of(store)
    assert found.drifts == []
    assert found.unchecked == ["SHA-256 of files: these records are too old to have them"]


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": {"points": "towards_head"}},  # the shares of the layers learn with the adapters
        {"backbone": {"points": ["towards_head", "behind_layer"]}},
        {"adapter": {"_target_": "own_adapter.HalfFrozen", "dim": 4}},
    ],
)
def test_the_numbers_of_weights_of_a_real_trial_agree(
    changes: dict[str, Any], make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    config = make_config(**merge({"loop": {"epochs": 1}}, changes))
    folder = TrialFolder(tmp_path / config.trial_id)
    run = TrialRun(config.trial_id, "numbers", "arm", config.seed, "confirm")
    assert run_trial(config, run, folder, resources).state == "complete"
    found, record = Findings(), folder.record()
    assert record is not None
    check_parameters(Place("arm", config.seed, folder), record, found)
    assert found.drifts == [] and found.held["parameter counts are those of the adapters"] == 1


PLANTED: dict[str, tuple[str, Callable[[Any], None], str]] = {
    "target metric": (
        "summary.json",
        lambda c: c["metrics"].update(target_macro_f1=c["metrics"]["target_macro_f1"] + 1e-6),
        "better x target_macro_f1, seed 1",
    ),
    "source metric": (
        "summary.json",
        lambda c: c["metrics"].update(source_accuracy=c["metrics"]["source_accuracy"] - 1e-6),
        "better x source_accuracy, seed 1",
    ),
    "forgetting": ("summary.json", lambda c: c["metrics"].update(forgetting=0.5), "better x forgetting, seed 1"),
    "score": (
        "summary.json",
        lambda c: c["metrics"].update(constrained_score=0.5),
        "better x constrained_score, seed 1",
    ),
    "scores by domain": (
        "summary.json",
        lambda c: c["by_domain"]["away"].update(accuracy=0.5) or c["metrics"].update(target_accuracy=0.5),
        "better x target_accuracy, seed 1",
    ),
    "base": (
        "summary.json",
        lambda c: c["base"]["home"].update(accuracy=0.5),
        "better x base accuracy on home, seed 1",
    ),
    "parameters": (
        "summary.json",
        lambda c: c["metrics"].update(trainable_parameters=41.0),
        "better x trainable_parameters, seed 1",
    ),
    "share": (
        "summary.json",
        lambda c: c["metrics"].update(trainable_share=0.041),
        "better x trainable_share, seed 1",
    ),
    "validation": (
        "summary.json",
        lambda c: c["valid"].update({"valid_target/accuracy": 0.1}),
        "better x valid_target/accuracy, seed 1",
    ),
    "best epoch": ("summary.json", lambda c: c.update(best_epoch=1), "better x best_epoch, seed 1"),
    "epochs": ("summary.json", lambda c: c.update(epochs_run=4), "better, seed 1"),
    "config": ("config.json", lambda c: c["optim"].update(lr=0.2), "better, seed 1"),
    "seed": ("config.json", lambda c: c.update(seed=2), "better, seed 1"),
    "summary of another trial": ("summary.json", lambda c: c.update(trial_id="0" * 12), "better, seed 1"),
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_change_is_found_without_digests(store: RecordStore, case: str) -> None:
    file, edit, cell = PLANTED[case]
    without_digests(store)
    trial_id = change(store, "better", 1, file, edit)
    drifts = findings_of(store).drifts
    assert drifts
    assert any(drift.place.startswith(cell) for drift in drifts), drifts
    assert all(trial_id in drift.place for drift in drifts)


@pytest.mark.parametrize("file", ["summary.json", "config.json", "log.jsonl", "predictions.jsonl"])
def test_any_changed_byte_is_found_by_its_digest(store: RecordStore, file: str) -> None:
    trial_id = store.manifest().arms["worse"][2]
    path = store.trial(trial_id).path / file
    path.write_bytes(path.read_bytes() + b"\n")
    messages = [str(drift) for drift in findings_of(store).drifts]
    assert any(f"worse, seed 2 ({trial_id}): {file} has SHA-256" in message for message in messages), messages


def test_changed_predictions_name_the_cells_that_they_move(store: RecordStore) -> None:
    without_digests(store)
    path = store.trial(store.manifest().arms["better"][0]).path / "predictions.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    flipped = re.sub(r'"prediction": (\d)', lambda m: f'"prediction": {(int(m[1]) + 1) % 3}', lines[0])
    path.write_text("\n".join([flipped, *lines[1:]]) + "\n", encoding="utf-8")
    places = [drift.place for drift in findings_of(store).drifts]
    assert {place.split(",")[0] for place in places} == {"better x target_accuracy", "better x target_macro_f1"}


@pytest.mark.parametrize("field", ["reference", "group"])
def test_another_reference_or_group_than_the_corpus_has_is_told(store: RecordStore, field: str) -> None:
    without_digests(store)
    path = store.trial(store.manifest().arms["better"][0]).path / "predictions.jsonl"
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    content = json.loads(first)
    changed = json.dumps({**content, field: {"reference": (content["reference"] + 1) % 3, "group": "0" * 12}[field]})
    path.write_text("\n".join([changed, *lines]) + "\n", encoding="utf-8")
    (drift,) = findings_of(store).drifts
    assert drift.place.startswith("better x away, seed 0")
    assert f"1 items of away with another reference or group than the corpus, the first of them {content['key']}" in (
        drift.message
    )


def test_records_that_are_older_than_references_hold(store: RecordStore) -> None:
    without_digests(store)
    for path in store.path.glob("records/*/predictions.jsonl"):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        old = [json.dumps({name: line[name] for name in ("domain", "key", "prediction")}) for line in lines]
        path.write_text("\n".join(old) + "\n", encoding="utf-8")
    found = findings_of(store)
    assert found.drifts == []
    assert "references of test items: these records are too old to have them" in found.unchecked


def test_a_lost_prediction_is_told(store: RecordStore) -> None:
    without_digests(store)
    path = store.trial(store.manifest().arms["better"][0]).path / "predictions.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(lines[1:]) + "\n", encoding="utf-8")
    (drift,) = findings_of(store).drifts
    assert drift.place.startswith("better x away, seed 0")
    assert "not the" in drift.message


@pytest.mark.parametrize(
    ("file", "edit"),
    [
        ("config.json", lambda c: c.update(loop="x")),
        ("config.json", lambda c: c.pop("data")),
        ("config.json", lambda c: c["data"].update(source=3)),
        ("config.json", lambda c: c.update(train=None)),
    ],
)
def test_a_config_with_parts_of_another_kind_is_one_drift(store: RecordStore, file: str, edit: Any) -> None:
    change(store, "better", 1, file, edit)
    (drift,) = findings_of(store).drifts
    assert "config.json: " in drift.message


@pytest.mark.parametrize("line", ['{"metrics": {"valid_target/macro_f1": "x"}}', "{}", "3", '{"metrics": 4}'])
def test_a_log_with_parts_of_another_kind_is_found(store: RecordStore, line: str) -> None:
    without_digests(store)
    (store.trial(store.manifest().arms["better"][1]).path / "log.jsonl").write_text(line + "\n", encoding="utf-8")
    (drift,) = findings_of(store).drifts
    assert drift.place.startswith("better, seed 1") and "log.jsonl: 0: " in drift.message


@pytest.mark.parametrize("content", ["{", '{"domain": 1}\n', "no json\n"])
def test_corrupt_predictions_are_one_drift(store: RecordStore, content: str) -> None:
    without_digests(store)
    path = store.trial(store.manifest().arms["better"][0]).path / "predictions.jsonl"
    path.write_text(content, encoding="utf-8")
    assert all("better" in drift.place for drift in findings_of(store).drifts)
    assert findings_of(store).drifts


def test_without_the_corpus_it_says_what_was_not_checked(store: RecordStore, tmp_path: Path) -> None:
    (tmp_path / "sentences.jsonl").unlink()
    found = findings_of(store)
    assert found.drifts == []
    assert found.held["scores by domain follow from the predictions"] == 0
    (reason,) = found.unchecked
    assert reason.startswith("scores against predictions: ")
    assert "sentences.jsonl" in reason


def test_another_version_of_the_corpus_is_no_drift_and_is_told(store: RecordStore, tmp_path: Path) -> None:
    write_sentences(tmp_path / "sentences.jsonl", extra=("another sentence",))
    found = findings_of(store)
    assert found.drifts == []
    assert any("has fingerprint" in reason for reason in found.unchecked)


def test_an_unreadable_record_is_a_drift_and_the_others_are_checked(store: RecordStore) -> None:
    trial_id = store.manifest().arms["better"][1]
    (store.trial(trial_id).path / "summary.json").write_text("{", encoding="utf-8")
    found = findings_of(store)
    (drift,) = found.drifts
    assert drift.place == f"better, seed 1 ({trial_id})"
    assert "not valid JSON" in drift.message
    assert found.held["seeds are those of the table"] == 8


def test_missing_records_are_named_and_no_drift(store: RecordStore) -> None:
    (store.trial(store.manifest().arms["better"][1]).path / "summary.json").unlink()
    found = findings_of(store)
    assert found.drifts == []
    assert "planned trials without a record: 1 (better, seed 1)" in found.unchecked


def test_a_record_in_another_seeds_place_is_found(store: RecordStore) -> None:
    manifest = store.manifest()
    record = store.trial(manifest.arms["better"][0]).record()
    assert record is not None
    found = check_record(Place("better", 1, store.trial(record.trial_id)), record, ReferenceShelf())
    assert [str(drift) for drift in found.drifts] == [
        f"better, seed 1 ({record.trial_id}): config.json has seed 0",
    ]
