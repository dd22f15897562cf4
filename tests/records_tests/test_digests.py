"""Digests that several workers on one folder change at once."""

from __future__ import annotations

import threading
from pathlib import Path

from harness.records.digests import PLAN_FILES, begin_digests, file_digests, read_digests, write_plan_file
from harness.records.store import RecordStore


def test_no_worker_writes_over_what_another_one_has_taken(tmp_path: Path) -> None:
    store = RecordStore(tmp_path, "shared")
    begin_digests(store)

    def write(name: str) -> None:
        for number in range(12):
            write_plan_file(store, name, {"number": number})

    threads = [threading.Thread(target=write, args=(name,)) for name in PLAN_FILES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = read_digests(store)
    assert known is not None and known.files == file_digests(store) and set(known.files) == set(PLAN_FILES)
    assert known.experiment == known.whole
    assert [path.name for path in store.path.glob(".*")] == []


def test_what_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    store = RecordStore(tmp_path, "done")
    begin_digests(store)
    store.path.chmod(0o555)
    before = (store.path / "digests.json").stat().st_mtime_ns
    begin_digests(store)
    assert (store.path / "digests.json").stat().st_mtime_ns == before
    store.path.chmod(0o755)
