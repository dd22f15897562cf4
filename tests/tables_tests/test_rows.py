"""A name of a row that a sweep file may use finds its row whatever winners the rules choose; old files are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.config.notes import Note
from harness.config.rows import RowId, merge_rules, possible_rows
from harness.config.table import TableSettings, check_table
from harness.errors import UserError
from harness.records.schema import Manifest, Summary, TrialState
from harness.records.store import RecordStore
from harness.tables.build import build_table

from .records_by_hand import text_metrics, write_records

RULES = ("best", "constrained", "one_se")
POSSIBLE = possible_rows(["frozen", "add", "l2"], ["add", "l2"], RULES)
CHOICES = [
    {"best": a, "constrained": b, "one_se": c} for a, b, c in [(0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (0, 1, 2)]
]
NAMES = sorted({row.name for row in POSSIBLE} | {row.arm for row in POSSIBLE})


def confirmed(results: Path, chosen: dict[str, int]) -> RecordStore:
    """The confirm phase of a sweep whose rules chose these winners, in both searched arms."""
    rows = [RowId("frozen"), *(row for arm in ("add", "l2") for row in merge_rules(arm, chosen).values())]
    outcomes = {
        row.name: {s: text_metrics(0.5 + 0.01 * n + 0.001 * s * n) for s in range(2)} for n, row in enumerate(rows)
    }
    return write_records(results, outcomes, rows={row.name: row for row in rows if row.rules})


def settings_with(name: str) -> list[TableSettings]:
    """The name wherever a table's settings can name a row."""
    other = "frozen" if name != "frozen" else "l2"
    claim = {"type": "contrast", "text": "more", "metric": "target_accuracy", "expect": "higher"}
    trend = {"type": "trend", "text": "grows", "metric": "target_accuracy", "expect": "increasing", "along": "width"}
    contents: list[dict[str, Any]] = [
        {"arms": [name]},
        {"baseline": name},
        {"baseline": name, "arms": [other, name]},
        {"groups": {"G": [name], "H": [other]}},
        {"claims": [{**claim, "arm": name, "than": other}]},
        {"claims": [{**claim, "arm": other, "than": name}]},
    ]
    assert check_error({"claims": [{**trend, "arm": name}]}) is None
    return [TableSettings.model_validate(content) for content in contents]


def check_error(content: dict[str, Any]) -> str | None:
    try:
        check_table(TableSettings.model_validate(content), POSSIBLE, "table")
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("chosen", CHOICES, ids=lambda chosen: "".join(map(str, chosen.values())))
def test_what_is_accepted_before_a_sweep_is_accepted_after_it(chosen: dict[str, int], tmp_path: Path) -> None:
    store = confirmed(tmp_path, chosen)
    rows = store.manifest().row_ids
    for name in NAMES:
        meant = [row.name for row in rows if name in (row.arm, *(f"{row.arm} ({rule})" for rule in row.rules))]
        for settings in settings_with(name):
            check_table(settings, POSSIBLE, "table")
            store.write_manifest(store.manifest().model_copy(update={"table": settings.recorded()}))
            table = build_table(store)
            assert settings.baseline is None or table.baseline == meant[0]
            if settings.arms == (name,):
                assert [row.id for row in table.rows] == meant
            if settings.groups:
                assert [row.id for row in table.rows if row.group == "G"] == meant
            if settings.claims and settings.claims[0].arm == name:
                assert f": {meant[0]} is higher than" in table.claims[0].statement


@pytest.mark.parametrize("name", ["frozen (best)", "add (mean)", "add (best, one_se)", "ad"])
def test_what_may_find_no_row_after_a_sweep_is_refused_before_it(name: str) -> None:
    message = check_error({"arms": [name]})
    assert message is not None and message.startswith("table.arms: ")
    assert repr(name) in message and "add (one_se)" in message


def test_two_rules_that_chose_one_winner_give_one_row(tmp_path: Path) -> None:
    store = confirmed(tmp_path, {"best": 0, "constrained": 1, "one_se": 0})
    both = {"arms": ["add (one_se)", "add (best)", "frozen"], "groups": {"A": ["add (best)", "add (one_se)"]}}
    table = build_table(store, settings=TableSettings.model_validate(both))
    assert [(row.id, row.group) for row in table.rows] == [("frozen", None), ("add (best, one_se)", "A")]


def test_manifests_say_what_their_rows_are(tmp_path: Path) -> None:
    store = confirmed(tmp_path, {"best": 0, "constrained": 1, "one_se": 0})
    content = json.loads((store.path / "experiment.json").read_text())
    assert content["rows"]["add (best, one_se)"] == {"arm": "add", "rules": ["best", "one_se"]}
    assert store.manifest().row_ids[1] == RowId("add", ("best", "one_se"))


def test_an_arm_that_only_looks_like_a_rules_row_stays_an_arm(tmp_path: Path) -> None:
    store = write_records(tmp_path, {"x (best)": {0: text_metrics(0.5)}}, rows={})
    assert store.manifest().row_ids == (RowId("x (best)"),)


OLD_TEXTS = ["each searched arm tuned with 16 trials", "not tuned: frozen", "unequal numbers of trials: a 3, b 4"]


def test_old_manifests_are_read(tmp_path: Path) -> None:
    content = {"version": 1, "name": "old", "description": "", "arms": {"add (best, one_se)": {"0": "i"}}}
    content |= {"table": {}, "notes": OLD_TEXTS}
    manifest = Manifest.model_validate_json(json.dumps(content))
    assert manifest.row_ids == (RowId("add", ("best", "one_se")),)
    assert [note.kind for note in manifest.notes] == ["budget", "selection", "budget"]
    store = RecordStore(tmp_path, "old")
    store.path.mkdir()
    path = store.path / "experiment.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    notes = tuple(Note(note.kind, note.text) for note in manifest.notes)
    new = Manifest(name="old", arms=manifest.arms, notes=notes, rows=manifest.rows)
    store.write_manifest(new)
    assert json.loads(path.read_text()) == content, "a file that says the same is not written again"
    store.write_manifest(new.model_copy(update={"notes": (*notes, Note("budget", "more"))}))
    assert store.manifest().notes[:-1] == notes
    assert json.loads(path.read_text())["rows"]


def test_old_records_are_read_and_written_as_they_were() -> None:
    content = {
        **Summary(trial_id="i", state=TrialState.COMPLETE).model_dump(mode="json"),
        "notes": ["one voice a language"],
    }
    summary = Summary.model_validate_json(json.dumps(content))
    assert summary.notes == (Note("data", "one voice a language"),)
    assert summary.model_dump(mode="json") == content


def test_records_hold_kind_and_text() -> None:
    summary = Summary(trial_id="i", state=TrialState.COMPLETE, notes=(Note("engine", "no CUDA graphs"),))
    assert summary.model_dump(mode="json")["notes"] == [{"kind": "engine", "text": "no CUDA graphs"}]
    assert Summary.model_validate_json(summary.model_dump_json()) == summary


@pytest.mark.parametrize("note", [{"kind": "weather", "text": "rain"}, {"kind": "data"}, 3])
def test_a_wrong_note_is_refused(note: Any) -> None:
    with pytest.raises(ValueError, match="notes"):
        Summary.model_validate({"trial_id": "i", "state": "complete", "notes": [note]})
