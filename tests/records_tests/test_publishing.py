"""Publishing: trial folders into two files and back, byte for byte, killed at any step."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tables_tests.records_by_hand import provenance

from harness.errors import TrialError, UserError
from harness.records.digests import DIGESTS
from harness.records.leases import take
from harness.records.packed import RECORDS, PackedRecords
from harness.records.packed_predictions import PREDICTIONS
from harness.records.predictions import read_predictions
from harness.records.publishing import PUBLISHING, publish, unpack
from harness.records.schema import Manifest, Summary, TrialState
from harness.records.store import RecordStore
from harness.records.trial_folder import TrialFolder

PREDICTION = '{"domain": "tweets", "key": "tweets/é1", "prediction": 2}\n'
ODD_FILES: dict[str, bytes] = {
    "notes.json": b'{"b":1,  "a": [1.0, 1e400, NaN]}',  # not as this package writes JSON
    "half.json": b'"\\ud800"\n',
    "again.json": b'{"a": 1, "a": 2}\n',
    "cut.jsonl": b'{"epoch": 1}\n{"epo',
    "windows.jsonl": b'{"epoch": 1}\r\n',
    "empty.json": b"",
    "traceback.txt": "Traceback …\r\n\x00\u2028".encode(),
}
LEFT_FILES: dict[str, bytes] = {
    "adapter.safetensors": b"\x80weights",
    "adapter.json": b'{"format": 1}\n',
    "plot.png": b"\x89PNG\xff",
}


def finish(folder: TrialFolder, seed: int = 0, state: str = "complete", **summary: Any) -> None:
    """A finished record with predictions, as a training leaves it."""
    folder.start({"seed": seed, "optim": {"lr": 1e-08, "name": "größer"}})
    (folder.path / "starts.jsonl").write_text('{"at": "2026-01-01T00:00:00+00:00"}\n', encoding="utf-8")
    folder.restart_log([])
    folder.append_log({"epoch": 1, "metrics": {"valid/loss": 0.1 + 0.2 + seed}, "seconds": 2.0})
    (folder.path / "predictions.jsonl").write_text(PREDICTION * (seed + 1), encoding="utf-8")
    folder.finish(Summary(trial_id=folder.trial_id, state=TrialState(state), **summary), provenance("corpus"))


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    """Two trials of a table, one of a search, one that is unfinished; odd files in the first."""
    store = RecordStore(tmp_path / "results", "mine")
    store.write_manifest(Manifest(name="mine", arms={"a": {0: "t0", 1: "t 1 (best)"}}))
    for seed, trial_id in enumerate(("t0", "t 1 (best)")):
        finish(store.trial(trial_id), seed)
    finish(TrialFolder(store.path / "search" / "t0"), 7)
    store.trial("unfinished").start({"seed": 2})
    for name, content in {**ODD_FILES, **LEFT_FILES}.items():
        (store.trial("t0").path / name).write_bytes(content)
    return store


def files_of(path: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones aside."""
    paths = [path for path in path.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(found.relative_to(path)): found.read_bytes() for found in paths}


def packed_bytes(store: RecordStore) -> tuple[bytes, bytes]:
    return (store.path / RECORDS).read_bytes(), (store.path / PREDICTIONS).read_bytes()


def test_round_trip_to_the_byte(store: RecordStore) -> None:
    before = files_of(store.path)
    done = publish(store)
    assert done.num_trials == {"records": 2, "search": 1} and (done.num_new, done.num_unfinished) == (3, 1)
    kept = {f"records/t0/{name}" for name in LEFT_FILES} | {"records/unfinished/config.json", "experiment.json"}
    assert set(files_of(store.path)) == kept | {RECORDS, PREDICTIONS, DIGESTS}
    assert done.num_weights == 1 and [Path(line).name for line in done.left] == ["plot.png"]
    assert not (store.path / "search").exists()  # folders with nothing left in them go
    assert unpack(store).num_new == 3
    after = files_of(store.path)
    assert after.pop(DIGESTS) and after == before


def test_what_is_read_is_the_same_in_both_forms(store: RecordStore) -> None:
    def read() -> list[Any]:
        folders = [*store.finished(), *store.finished("search")]
        found = [(f.trial_id, f.record(), f.config(), f.read_log(), read_predictions(f)) for f in folders]
        files = [f.read(name) for f in folders for name in sorted({**ODD_FILES, **LEFT_FILES, "config.json": b""})]
        return [found, files, store.trial("unfinished").record(), store.trial("nowhere").record()]

    before = read()
    assert len(before[0]) == 3
    publish(store)
    assert store.trial("t0").place == f"{store.path}/{RECORDS}:2"
    assert read() == before


def test_publishing_twice_gives_the_same_bytes(store: RecordStore, tmp_path: Path) -> None:
    shutil.copytree(store.path, tmp_path / "elsewhere" / "mine")
    publish(store, keep=True)
    first = packed_bytes(store)
    os.utime(store.path / RECORDS, (1, 1))
    assert publish(store).num_new == 0  # from the folders, which go now
    assert publish(store).num_removed == 0  # from the files themselves
    assert packed_bytes(store) == first and (store.path / RECORDS).stat().st_mtime == 1
    other = RecordStore(tmp_path / "elsewhere", "mine")
    publish(other)
    assert packed_bytes(other) == first
    unpack(store)
    publish(store)
    assert packed_bytes(store) == first


def test_another_compressor_changes_nothing(store: RecordStore) -> None:
    """Only the content counts: what a different build of the library wrote stays as it is."""
    import lzma

    publish(store)
    path = store.path / PREDICTIONS
    path.write_bytes(lzma.compress(lzma.decompress(path.read_bytes()), preset=0, check=lzma.CHECK_SHA256))
    written = path.read_bytes()
    assert read_predictions(store.trial("t0")) == {"tweets": {"tweets/é1": 2}}
    publish(store)
    assert path.read_bytes() == written


def test_the_lines_are_for_other_programs_too(store: RecordStore) -> None:
    import pandas as pd

    publish(store)
    lines = [json.loads(line) for line in (store.path / RECORDS).read_text(encoding="utf-8").splitlines()]
    assert [(line["folder"], line["trial_id"]) for line in lines] == [
        ("records", "t 1 (best)"),
        ("records", "t0"),
        ("search", "t0"),
    ]
    assert lines[1]["files"]["log.jsonl"][0]["metrics"] == {"valid/loss": 0.1 + 0.2}
    assert lines[1]["files"]["config.json"]["seed"] == 0
    frame = pd.read_json(store.path / PREDICTIONS, lines=True)
    trials = frame[["folder", "trial_id"]].ffill().assign(prediction=frame["prediction"]).dropna()
    assert trials.groupby(["folder", "trial_id"]).size().to_dict() == {
        ("records", "t 1 (best)"): 2,
        ("records", "t0"): 1,
        ("search", "t0"): 8,
    }


def test_new_and_repeated_trials_are_merged(store: RecordStore) -> None:
    publish(store)
    finish(store.trial("unfinished"), 2)
    again = store.trial("t0")
    again.clear()
    assert again.summary() is None and again.has_started()  # it is a folder again, that is being trained
    assert (again.path / "starts.jsonl").exists()
    assert publish(store).num_unfinished == 1 and again.summary() is None
    finish(again, 0, metrics={"target_accuracy": 0.75})
    assert {trial.trial_id for trial in store.finished()} == {"t0", "t 1 (best)", "unfinished"}
    done = publish(store)
    assert (done.num_new, done.num_replaced) == (0, 1)
    found = store.trial("t0").summary()
    assert found is not None and found.metrics == {"target_accuracy": 0.75}
    assert store.trial("unfinished").place.startswith(f"{store.path}/{RECORDS}:")


def test_unpacking_keeps_what_was_trained_since(store: RecordStore) -> None:
    publish(store)
    folder = store.trial("t0")
    folder.clear()
    assert unpack(store).num_unfinished == 1
    assert (store.path / RECORDS).exists()  # an unfinished training takes nothing away
    finish(folder, 0, metrics={"target_accuracy": 0.75})
    unpack(store)
    found = folder.summary()
    assert found is not None and found.metrics and not (store.path / RECORDS).exists()


def test_a_changed_folder_is_not_taken_away(store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something wrote into it after it was read: then it stays."""
    import harness.records.publishing as publishing

    path = store.trial("t0").path / "log.jsonl"
    real = publishing._write

    def write_and_change(*args: Any) -> None:
        real(*args)
        path.write_text("changed\n", encoding="utf-8")

    monkeypatch.setattr(publishing, "_write", write_and_change)
    done = publish(store)
    assert any("log.jsonl: not as published" in line for line in done.left)
    assert path.read_text(encoding="utf-8") == "changed\n"
    with store.trial("t0").lock(wait=False) as held:
        assert held
        assert any("another process holds it" in line for line in publish(store).left)


Command = Callable[[RecordStore], object]


class Killed(BaseException):
    """The end of a process, as far as a test can have it in its own."""


def kill_at(patch: pytest.MonkeyPatch, step: int) -> Callable[[], int]:
    """Have the file system stop everything before its `step`-th change; how many changes were tried."""
    count = 0

    def counted(name: str) -> None:
        real = getattr(os, name)

        def change(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count > step:
                raise Killed
            return real(*args, **options)

        patch.setattr(os, name, change)

    for name in ("replace", "unlink", "rmdir", "fsync"):
        counted(name)
    return lambda: count


@pytest.mark.slow
@pytest.mark.parametrize("command", [publish, unpack])
def test_stopped_at_every_step(
    store: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """Every record reads as before wherever it stops, and the same command goes on to the same end."""
    ends: dict[Command, dict[str, bytes]] = {}
    for each in (publish, unpack):
        each(store)
        ends[each] = files_of(store.path)
    before = ends[publish if command is unpack else unpack]
    records = [folder.record() for folder in (*store.finished(), *store.finished("search"))]
    step, finished = 0, False
    while not finished:
        path = tmp_path / str(step) / "mine"
        shutil.rmtree(path, ignore_errors=True)
        for name, content in before.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        killed = RecordStore(path.parent, "mine")
        with monkeypatch.context() as patch:
            count = kill_at(patch, step)
            try:
                command(killed)
                finished = True
            except Killed:
                finished = False
            assert count() >= step
        found = [folder.record() for folder in (*killed.finished(), *killed.finished("search"))]
        assert found == records, step
        try:
            command(killed)
        except UserError as error:  # it had done everything but the last thing
            assert "nothing to unpack" in str(error)
        assert files_of(path) == ends[command], step
        step += 1
    assert step > 20


PUBLISH = """
from pathlib import Path
from harness.records.publishing import publish
from harness.records.store import RecordStore

print("ready", flush=True)
publish(RecordStore(Path("results"), "mine"))
"""


@pytest.mark.slow
def test_killed_for_real(store: RecordStore, tmp_path: Path) -> None:
    """kill -9, at any time: what can be unpacked then is what was there."""
    for number in range(60):
        finish(store.trial(f"more{number}"), number)
    before = files_of(store.path)
    num_killed = 0
    for delay_s in (0.0, 0.01, 0.02, 0.03, 0.05, 0.08):
        process = subprocess.Popen([sys.executable, "-c", PUBLISH], cwd=tmp_path, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        num_killed += process.wait() != 0
        process.stdout.close()
        assert len(store.finished()) == 62
    publish(store)
    unpack(store)
    after = files_of(store.path)
    assert after.pop(DIGESTS) and after == before and num_killed >= 1


def test_nothing_to_publish_or_unpack(tmp_path: Path, store: RecordStore) -> None:
    with pytest.raises(UserError, match="choices: mine"):
        publish(RecordStore(store.path.parent, "other"))
    with pytest.raises(UserError, match="nothing to unpack"):
        unpack(store)
    empty = RecordStore(tmp_path, "empty")
    empty.write_manifest(Manifest(name="empty", arms={"a": {0: "x"}}))
    with pytest.raises(UserError, match="no trial of empty is finished"):
        publish(empty)


def test_two_at_once(store: RecordStore) -> None:
    lease = take(store.path, PUBLISHING)
    assert lease is not None
    with pytest.raises(TrialError, match="another process is publishing it"):
        publish(store)
    lease.release()
    publish(store)


def test_links_are_not_followed(store: RecordStore, tmp_path: Path) -> None:
    """Neither what is published nor what is unpacked crosses the border of the results."""
    secret = tmp_path / "secret.json"
    secret.write_text("{}", encoding="utf-8")
    (store.trial("t0").path / "linked.json").symlink_to(secret)
    (store.path / "search" / "linked").symlink_to(tmp_path)
    done = publish(store)
    assert any("linked.json" in line for line in done.left)
    assert "linked.json" not in PackedRecords(store.path / RECORDS).trial(("records", "t0")).files
    (tmp_path / "outside").mkdir()
    (store.path / "search" / "t0").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="is a link"):
        unpack(store)
    assert list((tmp_path / "outside").iterdir()) == [] and secret.exists()
