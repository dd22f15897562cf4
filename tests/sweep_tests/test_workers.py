"""Who trains what, and what waits for it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from harness.records.leases import take
from harness.records.starts import note_start
from harness.records.trial_run import TrialRun
from harness.sweep.workers import Held, read_held, waits


def begin(folder: Path, trial_id: str, number: int, epochs: int) -> Path:
    record = folder / "search" / trial_id
    record.mkdir(parents=True)
    (record / "config.json").write_text("{}")
    (record / "log.jsonl").write_text('{"epoch": 1}\n' * epochs)
    note_start(record, TrialRun(trial_id, folder.name, "plain", 1000, "search", number=number))
    return record


def test_who_trains_what_is_read_from_the_leases(tmp_path: Path) -> None:
    mine, left, elsewhere, done = (begin(tmp_path / "s", f"t{n}", n, n) for n in range(4))
    begin_again = TrialRun("t0", "s", "plain", 1000, "search", number=0)
    note_start(mine, begin_again)  # after a kill: one trial, two starts
    (done / "summary.json").write_text("{}")
    lease = take(mine)
    assert lease is not None
    other = {"host": "n7", "boot": "another", "pid": 12, "started": "5", "token": "t", "lease_s": 90.0}
    for record, age_s in ((elsewhere, 60), (left, 1000)):
        (record / ".lease.1").write_text(json.dumps({**other, "host": "n7" if age_s < 90 else "n8"}))
        os.utime(record / ".lease.1", (time.time() - age_s,) * 2)
    found = read_held(tmp_path / "s")
    lease.release()
    assert {one.title: (one.is_gone, one.epochs) for one in found} == {
        "search plain/trial0": (False, 0),
        "search plain/trial1": (True, 1),
        "search plain/trial2": (False, 2),
    }
    assert found[-1].is_gone  # those that are trained come first
    told = {one.title.rpartition("/")[2]: one.text for one in found}
    assert set(told) == {"trial0", "trial1", "trial2"}
    assert told["trial0"] == f"search plain/trial0, 0 epochs done: worker {os.getpid()} on {os.uname().nodename}"
    assert told["trial1"] == "search plain/trial1, 1 epoch done: worker 12 on n8 is gone; the next worker takes it"
    assert told["trial2"].startswith("search plain/trial2, 2 epochs done: worker 12 on n7 is silent for 60 s; another")
    assert Held("search plain/trial9", 3).text == "search plain/trial9, 3 epochs done: nobody trains it now"


@pytest.mark.parametrize(
    ("ended", "running", "planned", "told"),
    [
        ([0, 1, 2], [3, 4, 5, 6], 20, "a: trial 7 and later ones wait for trial 3 (search.lag 4)"),
        ([0, 1, 2, 4, 5], [3, 6], 20, "a: trial 7 and later ones wait for trial 3 (search.lag 4)"),
        ([], [0, 1, 2, 3], None, "a: trial 4 and later ones wait for trial 0 (search.lag 4)"),
        ([0, 1, 2], [3, 4, 5], 20, None),  # trial 6 may be drawn
        ([0, 1, 2], [3, 4], 5, None),  # nothing is left to draw
        ([0, 1, 2, 3, 4], [], 5, None),
    ],
)
def test_what_waits_for_what(ended: list[int], running: list[int], planned: int | None, told: str | None) -> None:
    assert waits("a", ended, running, planned, 4) == told
