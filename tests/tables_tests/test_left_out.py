"""A table says which launched arms and seeds it does not show, which claims were dropped, and what a launch changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config.table import TableSettings
from harness.records.declared import declare_claims
from harness.records.launches import declare_launch
from harness.records.store import RecordStore
from harness.tables.build import build_experiments, build_table
from harness.tables.left_out import MOST

from .records_by_hand import text_metrics, write_records

SPREAD = {"full": 0.010, "a": 0.013, "bad": 0.020, "worse": 0.030}
CLAIM = {"type": "contrast", "text": "bad wins", "metric": "target_accuracy", "arm": "bad", "than": "full"}
CLAIM |= {"expect": "better"}
TABLE: dict[str, Any] = {"baseline": "full", "metrics": ["target_accuracy"], "title": None}


def launch(store: RecordStore, table: dict[str, Any]) -> RecordStore:
    """Launch with other settings of the table; nothing is trained."""
    claims = {claim.id: claim.text for claim in TableSettings.model_validate(table).claims}
    manifest = store.manifest().model_copy(update={"table": table, "notes": ()})
    store.write_manifest(declare_launch(store, declare_claims(store, manifest, claims)))
    return store


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    arms = {arm: {seed: text_metrics(0.7 + sd * seed * seed) for seed in range(3)} for arm, sd in SPREAD.items()}
    config = {arm: {"data": {"target": "ro" if arm == "full" else "cs"}} for arm in SPREAD}
    return launch(write_records(tmp_path, arms, table=TABLE, config_of=config), TABLE | {"claims": [CLAIM]})


def notes(store: RecordStore, *starts: str) -> list[str]:
    return [note.text for note in build_table(store).footnotes if note.text.startswith(starts)]


def test_a_later_launch_that_hides_an_arm_drops_a_claim_and_lowers_the_level_says_so(store: RecordStore) -> None:
    said = ("launched, and", "claims that", "level", "arms", "metrics", "where")
    assert notes(store, *said) == []
    launch(store, TABLE | {"arms": ["full", "a"], "level": 0.5, "metrics": ["target_macro_f1"]})
    declared = next(iter(store.manifest().claims.values())).at[:10]
    assert notes(store, *said) == [
        "launched, and left out by arms: bad, worse",
        "level is 0.5, but was 0.95 when the experiment was first launched",
        "arms are full, a, but were all when the experiment was first launched",
        "metrics are target_macro_f1, but were target_accuracy when the experiment was first launched",
        f"claims that were declared at a launch, and are not judged here: bad wins ({declared})",
    ]
    launch(store, TABLE | {"claims": [CLAIM]})
    assert notes(store, *said) == []


def test_what_where_leaves_out_is_named_with_its_seeds(store: RecordStore) -> None:
    where = TableSettings.model_validate({**TABLE, "where": {"data.target": "ro"}})
    table = build_table(store, settings=where)
    assert [note.text for note in table.footnotes if note.text.startswith("launched, and")] == [
        "launched, and left out by where: a, bad, worse"
    ]
    table = build_table(store, settings=TableSettings.model_validate({**TABLE, "where": {"seed": 1}}))
    assert "full (seeds 0, 2); a (seeds 0, 2)" in str(table.footnotes)
    launch(store, TABLE | {"where": {"data.target": "ro"}})
    assert notes(store, "where") == ["where is data.target=ro, but was none when the experiment was first launched"]


def test_a_table_of_several_experiments_names_the_experiment_of_each_arm(store: RecordStore, tmp_path: Path) -> None:
    other = {f"arm, {place}": {0: text_metrics(0.5)} for place in range(MOST + 2)}
    write_records(tmp_path, {"full": {0: text_metrics(0.5)}, **other}, name="other")
    settings = TableSettings.model_validate({**TABLE, "arms": ["full", "a", "bad", "worse"]})
    (note,) = [n for n in build_experiments(tmp_path, ("mine", "other"), settings).footnotes if "launched" in n.text]
    assert note.text.startswith("launched, and left out by arms: other/arm, 0; other/arm, 1; ")
    assert note.text.endswith(" and 2 more")
    assert not [n for n in build_experiments(tmp_path, ("mine", "other"), settings).footnotes if "claims" in n.text]
