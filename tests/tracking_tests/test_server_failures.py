"""A W&B server that refuses, fails, hangs or denies: trials end, one line is said, later trials do not wait."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .transaction_log import read_finished_run
from .wandb_server import WandbServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

# Four trials in a process of their own: wandb keeps its settings and its login for as long as a process lives.
TRIALS = """
import sys
from pathlib import Path
from harness.records.schema import Summary, TrialState
from harness.tracking import client, wandb_tracker
from harness.tracking.tracker import TrialRun

client.INIT_TIMEOUT_S = wandb_tracker.FINISH_TIMEOUT_S = float(sys.argv[2])
for number in range(4):
    tracker = wandb_tracker.WandbTracker(Path(sys.argv[1]), "online")
    tracker.start(TrialRun(f"trial{number}", "sweep", "arm", number, "search", {}))
    for epoch in (1, 2, 3):
        tracker.log({"epoch": epoch, "metrics": {"loss": 1 / epoch}})
    tracker.finish(Summary(trial_id=f"trial{number}", state=TrialState.COMPLETE))
    print(f"trial{number} has ended")
"""


@contextmanager
def server_url(failure: str) -> Iterator[str]:
    if failure == "refused":
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
            yield f"http://127.0.0.1:{taken.getsockname()[1]}"
        return
    kind, _, where = failure.partition(" in ")
    with WandbServer(kind, (where,) if where else ("graphql", "file_stream")) as server:
        yield server.url


def environment(url: str, home: Path) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}  # a wandb service of its own
    return own | {
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": "0" * 40,
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }


@pytest.mark.parametrize("failure", ["refused", "500", "401", "hang", "500 in file_stream", "hang in file_stream"])
def test_one_line_and_one_wait(failure: str, tmp_path: Path) -> None:
    with server_url(failure) as url:
        result = subprocess.run(
            [sys.executable, "-c", TRIALS, str(tmp_path / "results"), "4"],
            env=environment(url, tmp_path),
            capture_output=True,
            text=True,
            timeout=120,  # wandb itself would try for hours
        )
    assert result.returncode == 0
    ended = [f"trial{number} has ended" for number in range(4)]
    complaint, *others = [line for line in result.stdout.splitlines() if line not in ended]
    assert others == []
    assert complaint.startswith("wandb ")
    assert complaint.endswith("W&B is offline from here on, and `harness sync sweep` sends what is missing")
    assert [line for line in result.stdout.splitlines() if line in ended] == ended
    assert result.stderr == ""
    # The others were kept offline, whole.
    runs = [read_finished_run(path) for path in sorted(tmp_path.glob("results/wandb/offline-run-*/run-*.wandb"))]
    assert {run.run_id for run in runs} == {"trial1", "trial2", "trial3"}
    assert all(len(run.history) == 3 for run in runs)


def test_a_healthy_server_gets_everything_live(tmp_path: Path) -> None:
    with WandbServer() as server:
        result = subprocess.run(
            [
                sys.executable,
                "-c",
                TRIALS,
                str(tmp_path / "results"),
                "60",
            ],  # a busy machine is no failure of the server
            env=environment(server.url, tmp_path),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.splitlines() == [f"trial{number} has ended" for number in range(4)]
        for run in server.runs.values():
            assert (run.state, run.tags, run.summary["state"]) == ("finished", ["arm", "complete"], "complete")
            assert [row["_step"] for row in run.history] == [1, 2, 3]
            assert run.summary["harness_content"]
        assert len(server.runs) == 4
