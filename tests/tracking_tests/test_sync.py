"""`harness sync` as a command, against a stand-in for the server: nothing is there twice, nothing is lost."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_tests.conftest import Cli, Result, cli
from tiny_text import RunCli

from .local_records import write_record, write_sweep
from .wandb_server import WandbServer

__all__ = ["cli"]

pytestmark = pytest.mark.slow

TRIALS = {"c0f0", "c0f1", "c0f2", "5ea0", "5ea1", "5ea2", "5eaf"}
Sync = Callable[[WandbServer], Result]


@pytest.fixture(autouse=True)
def own_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A service of wandb's for each test, as that is told the server's address when it starts."""
    import wandb

    wandb.teardown()  # that of the tests that ran before
    monkeypatch.delenv("WANDB_SERVICE", raising=False)
    yield
    wandb.teardown()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "results")


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as server:
        yield server


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A login, and short timeouts for the command, which is a process of its own."""
    lines = ["import harness.tracking.client as client, harness.tracking.sync as sync", "client.INIT_TIMEOUT_S = 3.0"]
    text = "\n".join([*lines, "sync.UPLOAD_TIMEOUT_S = 3.0", ""])
    (tmp_path / "sitecustomize.py").write_text(text, encoding="utf-8")
    root = Path(__file__).resolve().parents[2]
    return {"WANDB_API_KEY": "0" * 40, "HOME": str(tmp_path), "PYTHONPATH": f"{tmp_path}:{root}"}


@pytest.fixture
def sync(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sync:
    """The command in this process, with a login."""
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("harness.tracking.sync.CONFIRM_TRIES", 2)

    def run(server: WandbServer) -> Result:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        return cli("sync", "--quiet")

    return run


def steps(server: WandbServer) -> dict[str, list[int]]:
    return {run_id: [row["_step"] for row in run.history] for run_id, run in server.runs.items()}


def study_id(server: WandbServer) -> str:
    (run_id,) = (run_id for run_id in server.runs if run_id.startswith("study-"))
    return run_id


def test_twice_is_once(path: Path, server: WandbServer, sync: Sync) -> None:
    first = sync(server)
    assert (first.code, first.err) == (0, "")
    assert first.out == "sweep: 8 sent, 0 already there, 1 wait for the search to end\n"
    assert set(server.runs) == TRIALS | {study_id(server)}
    before = steps(server)
    assert before["c0f1"] == before["5ea0"] == [1, 2, 3]
    assert (before["c0f0"], before["5ea1"], before["5ea2"]) == ([], [1, 2], [1])
    num_requests = len(server.requests)
    second = sync(server)
    assert second.out == "sweep: 0 sent, 8 already there, 1 wait for the search to end\n"
    assert len(server.requests) == num_requests  # all of it was confirmed: not even a question
    (path / "wandb_synced.json").unlink()
    third = sync(server)  # without the local mark, the server's answer decides
    assert third.out == "sweep: 0 sent, 8 already there, 1 wait for the search to end\n"
    assert steps(server) == before
    assert all(run.num_starts == 1 for run in server.runs.values())


def test_what_a_run_is(path: Path, server: WandbServer, sync: Sync) -> None:
    sync(server)
    told = {run.run_id: (run.job_type, run.name, run.tags, run.state) for run in server.runs.values()}
    assert told["c0f0"] == ("baseline", "frozen/seed10", ["frozen", "complete"], "finished")
    assert told["c0f2"] == ("confirm", "l2/seed11", ["l2", "complete"], "finished")
    assert told["5ea1"] == ("search", "l2/trial1", ["l2", "pruned@2"], "finished")
    assert told["5ea2"] == ("search", "l2/trial2", ["l2", "failed:nan"], "failed")
    assert told["5eaf"][1] == "l2/trial0"  # the race's record
    assert {run.group for run in server.runs.values()} == {"sweep"}
    assert server.runs["5ea0"].config["search/adapter.adapter_strategy.l2_lambda"] == 0.1
    assert server.runs["c0f1"].summary["final/target_accuracy"] == 0.6
    study = server.runs[study_id(server)]
    assert (study.job_type, study.summary["ablation"]["_type"]) == ("study", "table-file")
    assert any("media/images/figures" in file for file in server.files)


def test_changed_records_replace_their_runs(
    path: Path, server: WandbServer, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id cannot be used again once its run is deleted, so the new run gets one of its own."""
    sync(server)
    write_record(path / "records" / "c0f1", 10, num_epochs=4, l2=0.1)
    again = sync(server)
    assert again.out == "sweep: 1 sent, 7 already there, 1 wait for the search to end\n"
    (run_id,) = (run_id for run_id in server.runs if run_id.startswith("c0f1"))
    assert run_id.startswith("c0f1-")
    assert steps(server)[run_id] == [1, 2, 3, 4]
    assert server.deleted == {"c0f1"}
    write_record(path / "records" / "c0f1", 10, num_epochs=3, l2=0.1)  # as it was: its first id is gone
    monkeypatch.setattr("harness.tracking.client.INIT_TIMEOUT_S", 4.0)  # so long wandb tries that id
    assert sync(server).code == 0
    (run_id,) = (run_id for run_id in server.runs if run_id.startswith("c0f1"))
    assert steps(server)[run_id] == [1, 2, 3]
    assert len(server.deleted) == 2


def test_an_upload_that_was_cut_goes_on(path: Path, server: WandbServer, sync: Sync) -> None:
    server.lines_left = 2
    cut = sync(server)
    assert cut.code == 1
    assert cut.error.startswith("sweep: W&B")
    assert sum(map(len, steps(server).values())) == 2
    server.lines_left = None
    assert sync(server).code == 0
    assert steps(server)["c0f1"] == [1, 2, 3]
    assert set(server.runs) == TRIALS | {study_id(server)}
    assert server.deleted == set()


def test_a_new_version_of_the_study(path: Path, server: WandbServer, sync: Sync) -> None:
    sync(server)
    frozen = json.loads((path / "frozen.json").read_text())
    (path / "frozen.json").write_text(json.dumps(frozen | {"note": "more trials"}))
    sync(server)
    study = server.runs[study_id(server)]
    assert len(study.history) == 2
    assert study.config["frozen"]["note"] == "more trials"


def test_a_failing_server_is_one_line(path: Path, sync: Sync, run_cli: RunCli, env: dict[str, str]) -> None:
    """In processes of their own, as some end with a thread that still waits for the server."""
    with WandbServer() as server:
        for server.failure in ("500", "401", "hang"):
            result = run_cli("sync", "--quiet", env=env | {"WANDB_BASE_URL": server.url})
            assert result.returncode == 1
            (line,) = result.stderr.splitlines()
            assert line.startswith("harness: sweep: W&B: ")
            assert line.endswith("run harness sync again to go on")
            assert not (path / "wandb_synced.json").exists()
        server.failure = None
        assert sync(server).code == 0
        assert set(server.runs) == TRIALS | {study_id(server)}


def test_a_server_that_refuses_connections(path: Path, run_cli: RunCli, env: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        result = run_cli("sync", env=env | {"WANDB_BASE_URL": f"http://127.0.0.1:{taken.getsockname()[1]}"})
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1


def test_nobody_is_logged_in(path: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    result = cli("sync")
    assert result.code == 2
    assert result.error == "sync needs a W&B login: run `wandb login`, or set WANDB_API_KEY"


def test_unknown_name(path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    result = cli("sync", "other")
    assert result.code == 2
    assert result.error == "no results of 'other' in results; choices: sweep"
