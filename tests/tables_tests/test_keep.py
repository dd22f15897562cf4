"""The table that a launch leaves, and what becomes of a launch whose table cannot be made."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.records.store import RecordStore
from harness.tables.keep import keep_if_possible

from .golden_experiments import write_factorial


def with_table(store: RecordStore, **table: object) -> RecordStore:
    store.write_manifest(store.manifest().model_copy(update={"table": table}))
    return store


def test_a_table_is_kept(tmp_path: Path) -> None:
    store = with_table(write_factorial(tmp_path), layout="effects", metrics=["target_cer"])
    kept = keep_if_possible(store)
    assert kept.table is not None and kept.reason is None and not kept.is_fault
    assert (store.path / "table.md").is_file() and (store.path / "table.json").is_file()


def test_effects_of_a_part_of_a_design_are_no_fault(tmp_path: Path) -> None:
    store = with_table(write_factorial(tmp_path), layout="effects", metrics=["target_cer"])
    for trial_id in store.manifest().arms["p=0.5, lambda=0, dim=64"].values():
        shutil.rmtree(store.trial(trial_id).path)
    kept = keep_if_possible(store)
    assert kept.table is None and not kept.is_fault
    assert kept.reason is not None and kept.reason.startswith("no table yet: ")
    assert not (store.path / "table.md").exists()


def test_settings_that_fit_no_record_are_a_fault(tmp_path: Path) -> None:
    kept = keep_if_possible(with_table(write_factorial(tmp_path), settings=["optim.nope"]))
    assert kept.table is None and kept.is_fault
    assert kept.reason is not None and kept.reason.startswith("no table: table.settings: no trial of grid has")
