"""Whether a worker sees the folder of its launch: the mark in it, and what the workers make of it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from cli_tests.conftest import Cli, cli
from sweeps_by_hand import write_sweep
from tiny_text import TinyText

from harness.errors import TrialError
from harness.launch import same_folder
from harness.launch.ray_worker import TrialActor
from harness.launch.same_folder import MARK, mark_of, sees

__all__ = ["cli"]


def test_who_reads_the_same_sees_the_same(tmp_path: Path) -> None:
    launched, private = tmp_path / "shared" / "mine", tmp_path / "private" / "mine"
    mark = mark_of(launched)
    assert len(mark) == 16 and mark_of(launched) == mark  # also for workers that come later
    assert sees(launched, mark)
    assert not sees(private, mark)  # there is no such folder
    private.mkdir(parents=True)
    assert not sees(private, mark)
    assert mark_of(private) != mark and not sees(private, mark)  # another launch's
    (private / MARK).unlink()
    (private / MARK).mkdir()
    assert not sees(private, mark)
    assert [path.name for path in launched.iterdir()] == [MARK]


def test_launches_that_begin_at_once_have_one_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_folder, "exists_now", lambda path: False)  # none of them finds one
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(mark_of(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and set(found) == {(tmp_path / MARK).read_text()}


def test_a_folder_that_takes_no_mark_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrialError, match=rf"{tmp_path}/file/{MARK}: cannot be written") as caught:
        mark_of(tmp_path / "file")
    assert caught.value.reason == "disk"


def test_a_worker_of_ray_tells_whether_it_sees_the_folder(tmp_path: Path) -> None:
    actor: TrialActor = object.__new__(TrialActor)
    mark = mark_of(tmp_path)
    seen = [actor.join(told).sees_folder for told in (None, (str(tmp_path), mark), (str(tmp_path / "other"), mark))]
    assert seen == [True, True, False]


@pytest.mark.parametrize("kind", ["sweep", "experiment"])
def test_a_worker_that_sees_another_folder_trains_nothing(
    kind: str, cli: Cli, tiny_text_files: TinyText, tmp_path: Path
) -> None:
    few = {"space": {"optim.lr": {"type": "log_float", "low": 1e-3, "high": 1e-1}}, "budget": {"trials": 1}}
    path = write_sweep(tiny_text_files.experiment, tmp_path, few)
    name = "by_hand"
    if kind == "experiment":
        path, name = tmp_path / "tiny_strategies.yaml", "tiny_strategies"
    mark = mark_of(tmp_path / "launched" / name)
    refused = cli("work", path, "--results", tmp_path / "private", "--mark", mark)
    assert refused.code == 2 and refused.out == ""
    for told in (socket.gethostname(), same_folder.REFUSAL, str(tmp_path / "private" / name), "--results"):
        assert told in refused.error
    assert not (tmp_path / "private").exists()
