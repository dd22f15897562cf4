"""A launch whose W&B server refuses, fails, hangs or denies: no trial waits, one line is said, nothing is lost."""

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

# A launch of four trials, in a process of its own; it says how long they took.
LAUNCH = """
import sys, time
from pathlib import Path
from harness.cli.following import following
from tracking_tests.launched import LaunchedTrial

experiment = Path(sys.argv[1]) / "small"
with following(experiment, "wandb"):
    began = time.monotonic()
    for number in range(4):
        trial = LaunchedTrial(experiment, f"trial{number}").start()
        for epoch in (1, 2, 3):
            trial.log(epoch)
            time.sleep(0.1)
        trial.end()
    print(f"{time.monotonic() - began:.1f}", flush=True)
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


def launch(url: str, home: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """The launch, with its results in `home / "results"`."""
    lines = ["import harness.tracking.client as client, harness.tracking.wandb_tracker as tracker"]
    lines += [f"client.INIT_TIMEOUT_S = tracker.WandbTracker.timeout_s = {timeout_s}", ""]
    (home / "sitecustomize.py").write_text("\n".join(lines), encoding="utf-8")
    own = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}  # a wandb service of its own
    login = {"WANDB_MODE": "online", "WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40, "HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-c", LAUNCH, str(home / "results")],
        env=own | login | {"PYTHONPATH": f"{home}:{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=120,  # wandb itself would try for hours
    )


# `make chaos` tries all; `harness sync` has the same from a server that refuses or says 500 (test_sync.py).
FAILURES = ["401", "hang", "hang in file_stream"]
MORE = ["refused", "500", "500 in file_stream"] if "HARNESS_CHAOS" in os.environ else []


@pytest.mark.parametrize("failure", [*FAILURES, *MORE])
def test_one_line_and_everything_offline(failure: str, tmp_path: Path) -> None:
    with server_url(failure) as url:
        result = launch(url, tmp_path, 30 if failure == "401" else 4)  # the only one that is told at once
    assert result.returncode == 0
    assert float(result.stdout) < 4  # less than any wait for the server
    (complaint,) = [line for line in result.stderr.splitlines() if not line.startswith("waiting at most ")]
    assert complaint.startswith("wandb failed: ")
    assert complaint.endswith("W&B is offline from here on, and `harness sync small` sends what is missing")
    runs = [read_finished_run(path) for path in sorted(tmp_path.glob("results/small/wandb/offline-run-*/run-*.wandb"))]
    assert {run.run_id for run in runs} == {f"trial{number}" for number in range(4)}
    assert all(len(run.history) == 3 and run.summary["state"] == "complete" for run in runs)


def test_a_healthy_server_gets_everything_live(tmp_path: Path) -> None:
    with WandbServer() as server:
        result = launch(server.url, tmp_path, 60)  # a busy machine is no failure of the server
        assert (result.returncode, result.stderr) == (0, "")
        for run in server.runs.values():
            assert (run.state, run.tags, run.summary["state"]) == ("finished", ["residual_add", "complete"], "complete")
            assert [row["_step"] for row in run.history] == [1, 2, 3]
            assert run.summary["harness_content"]
        assert len(server.runs) == 4
