"""Workers by hand, on a real Slurm and on a Ray cluster: the same trials and the same table as in one process."""

from __future__ import annotations

import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from cli_tests.conftest import Cli
from ray_nodes import RayNodes
from slurm import Slurm
from tiny_text import TinyText

from harness.launch.same_folder import REFUSAL

from .conftest import Start, finish
from .test_sweep_killed import SWEEP, assert_same, uninterrupted, wait_for_news, write_sweep

__all__ = ["uninterrupted"]

pytestmark = [pytest.mark.slow, pytest.mark.long]
WORK = ("work", "--engine", "plain")


def test_workers_by_hand_come_and_go(
    tiny_text_files: TinyText, start: Start, cli: Cli, uninterrupted: Path, tmp_path: Path
) -> None:
    """One ends by its time, one is asked to end, one dies, and one is left."""
    path = write_sweep(tiny_text_files, tmp_path)
    command = [*WORK, path, "--results", tmp_path / "r"]
    results = tmp_path / "r" / "tiny_sweep"
    timed = cli(*command, "--until", "1s")
    assert (timed.code, timed.err) == (0, "") and timed.out.splitlines()[-1].startswith("stopped (--until 1s)")
    asked, killed, last = (start(*command) for _ in range(3))
    wait_for_news(asked, results, 3)
    asked.send_signal(signal.SIGTERM)
    killed.kill()
    code, out, err = finish(asked)
    assert (code, err) == (0, "") and out.splitlines()[-1].startswith("stopped (SIGTERM); trials under way are left")
    code, out, err = finish(last)
    assert (code, err) == (0, "") and out.splitlines()[-1] == "nothing is left"
    assert not (results / "table.md").exists()
    done = cli(*SWEEP, path, "--results", tmp_path / "r")
    assert (done.code, done.err) == (0, "") and "0 trials" not in done.out
    assert_same(results, uninterrupted)
    assert cli("verify", "tiny_sweep", "--results", tmp_path / "r").code == 0


@pytest.mark.timeout(400)
def test_a_sweep_on_slurm_survives_a_requeued_job_and_a_dead_node(
    tiny_text_files: TinyText, start: Start, cli: Cli, uninterrupted: Path, tmp_path: Path, slurm: Slurm
) -> None:
    path = write_sweep(tiny_text_files, tmp_path)
    results = tmp_path / "r" / "tiny_sweep"
    command = [*SWEEP, path, "--results", tmp_path / "r", "--launcher", "slurm", "--jobs", "2"]
    follower = start(*command, "launcher.time_limit=10m", env=slurm.env)
    deadline = time.monotonic() + 100
    while len(nodes := dict(line.split() for line in running(slurm))) < 2:
        assert time.monotonic() < deadline and follower.poll() is None
        time.sleep(0.2)
    wait_for_news(follower, results, 4)
    assert slurm.ask("scontrol", "requeue", nodes["n1"]) == ""
    wait_for_news(follower, results, 4)
    assert slurm.kill_node("n2") > 0  # the daemon, and the worker at its trial
    code, _, err = finish(follower)
    assert code == 0, err
    assert_same(results, uninterrupted)
    lines = err.splitlines()
    assert lines[0].startswith("slurm: submitted 2 workers as job ") and any("running on n" in line for line in lines)
    assert all(line.startswith("slurm: ") for line in lines)
    log = "".join(file.read_text() for file in (results / "slurm").glob("*.log"))
    assert "stopped (SIGTERM)" in log and "nothing is left" in log
    assert cli("verify", "tiny_sweep", "--results", tmp_path / "r").code == 0


@pytest.mark.timeout(300)
def test_a_sweep_on_slurm_whose_workers_see_another_folder_ends_with_the_cause(
    tiny_text_files: TinyText, start: Start, tmp_path: Path, slurm: Slurm
) -> None:
    """Nothing is trained into it, and nothing is submitted again."""
    path, program = write_sweep(tiny_text_files, tmp_path), tmp_path / "apart"
    private = f"--results={tmp_path / 'private'}"
    program.write_text(f'#!/bin/bash\nexec {sys.executable} -m harness "${{@/--results=*/{private}}}"\n')
    program.chmod(0o755)
    command = [*SWEEP, path, "--results", tmp_path / "r", "--launcher", "slurm", "--jobs", "2"]
    code, _, err = finish(start(*command, f"launcher.program={program}", env=slurm.env))
    *others, last = err.splitlines()
    assert code == 2 and last.startswith("harness: launcher slurm: "), err
    for told in (socket.gethostname(), REFUSAL, str(tmp_path / "private" / "tiny_sweep"), "--results"):
        assert told in last
    assert sum("submitted" in line for line in others) == 1 and not (tmp_path / "private").exists()


@pytest.mark.timeout(60)
def test_what_slurm_does_not_take_is_told_before_anything_is_written(
    tiny_text_files: TinyText, start: Start, tmp_path: Path, slurm: Slurm
) -> None:
    path = write_sweep(tiny_text_files, tmp_path)
    for command in ("sweep", "plan", "run"):
        file = tmp_path / "tiny.yaml" if command == "run" else path
        options = ("--results", tmp_path / "r", "--launcher", "slurm", "launcher.partition=gpu")
        code, out, err = finish(start(command, file, *options, env=slurm.env))
        assert (code, out) == (2, "") and "gpu" in err and err.count("\n") == 1, err
    assert not (tmp_path / "r").exists()


def running(slurm: Slurm) -> list[str]:
    """Node and number of each job that runs."""
    return slurm.ask("squeue", "--noheader", "--states=RUNNING", "--format=%N %A").splitlines()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("shared", ["true", "false"], ids=["shared", "apart"])
def test_a_sweep_on_ray_survives_a_dead_node(
    shared: str, tiny_text_files: TinyText, start: Start, uninterrupted: Path, tmp_path: Path, ray_nodes: RayNodes
) -> None:
    ray_nodes.have_two()
    path = write_sweep(tiny_text_files, tmp_path)
    results = tmp_path / "r" / "tiny_sweep"
    options = [f"launcher.{key}" for key in (f"address={ray_nodes.address}", f"shared={shared}", "checkpoint_s=0")]
    sweep = start(*SWEEP, path, "--results", tmp_path / "r", "--launcher", "ray", "--jobs", "2", *options)
    wait_for_news(sweep, results, 8)
    ray_nodes.kill_one()
    code, out, err = finish(sweep)
    assert code == 0, out + err
    assert_same(results, uninterrupted)
    assert not [*results.rglob("*.tmp")]
    code, out, _ = finish(start("verify", "tiny_sweep", "--results", tmp_path / "r"))
    assert code == 0, out
