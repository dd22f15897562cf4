"""A launch that is killed while W&B listens: the same command goes on, and `harness sync` leaves one whole run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_tests.conftest import cli

from harness.records.schema import Manifest
from harness.records.store import RecordStore

from .test_sync import Sync, own_service, sync
from .wandb_server import WandbServer

__all__ = ["cli", "own_service", "sync"]

ROOT = Path(__file__).resolve().parents[2]

# Trains `trial0`: up to its second epoch, where it waits to be killed; or, with "on", to its end.
LAUNCH = """
import sys, time
from pathlib import Path
from harness.cli.following import following
from tracking_tests.launched import LaunchedTrial

experiment = Path(sys.argv[1]) / "small"
with following(experiment, "wandb"):
    trial = LaunchedTrial(experiment, "trial0").start().log(1, 2)
    if sys.argv[2:] != ["on"]:
        time.sleep(120)
    trial.log(3).end()
"""


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("victim", ["launch", "all"])
def test_a_killed_launch_that_goes_on_leaves_one_whole_run(victim: str, tmp_path: Path, sync: Sync) -> None:
    results = tmp_path / "results"
    RecordStore(results, "small").write_manifest(Manifest(name="small", arms={"residual_add": {3: "trial0"}}))
    own = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    with WandbServer() as server:
        login = {"WANDB_MODE": "online", "WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40, "HOME": str(tmp_path)}
        # Else wandb sends what is logged every 15 s, if the run does not end.
        login["WANDB__FILE_STREAM_TRANSMIT_INTERVAL"] = "0.2"
        env = own | login | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        command = [sys.executable, "-c", LAUNCH, str(results)]
        with subprocess.Popen(command, env=env, start_new_session=True) as launch:
            deadline = time.monotonic() + 60
            while "trial0" not in server.runs or not server.runs["trial0"].history:  # wandb keeps the last row back
                assert time.monotonic() < deadline
                time.sleep(0.05)
            (os.killpg if victim == "all" else os.kill)(launch.pid, signal.SIGKILL)
        again = subprocess.run([*command, "on"], env=env, capture_output=True, text=True, timeout=120)
        assert (again.returncode, again.stderr) == (0, "")
        assert [row["_step"] for row in server.runs["trial0"].history] == [1, 2, 3]
        assert server.runs["trial0"].tags == ["residual_add", "complete"]
        sync(server)
        (run,) = server.runs.values()
        assert [row["_step"] for row in run.history] == [1, 2, 3] and run.summary["state"] == "complete"
        assert run.summary["harness_content"] and run.state == "finished"
        num_requests = len(server.requests)
        assert "0 sent, 1 already there" in sync(server).out
        assert len(server.requests) == num_requests
