"""The launcher slurm: what it refuses, submits and tells; with answers of Slurm by hand, and with a real one."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from slurm import Slurm

from harness.disk import read_lines
from harness.errors import TrialError, UserError
from harness.launch import slurm as slurm_launcher
from harness.launch.launchers import choose_launcher
from harness.launch.same_folder import REFUSAL, mark_of, not_seen
from harness.launch.slurm import SlurmLauncher, SlurmOptions, script

WORK = ("work", "sweep file.yaml", "optim.lr=1", "--results=results")


def refused(options: Mapping[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        choose_launcher(None, 1, {"name": "slurm", **options}, "s.yaml: launcher")
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestSlurmOptions:
    def test_the_script(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        folder = tmp_path / "my folder"
        folder.mkdir()
        monkeypatch.chdir(folder)
        options = SlurmOptions(
            time_limit="1d4h",
            notice="3m",
            partition="gpu",
            account="lab",
            qos="low",
            cpus=4,
            gpus="a100:1",
            memory="16G",
            sbatch=("--constraint=a100|h100", "--exclusive"),
            setup=("module load cuda",),
            program="harness",
        )
        assert script(options, 3, WORK, "/r/slurm", "harness-x").splitlines() == [
            "#!/bin/bash",
            "#SBATCH --job-name=harness-x",
            "#SBATCH --array=0-2",
            "#SBATCH --output=/r/slurm/%A_%a.log",
            f"#SBATCH --chdir='{folder}'",
            "#SBATCH --ntasks=1",
            "#SBATCH --cpus-per-task=4",
            "#SBATCH --signal=B:USR2@180",
            "#SBATCH --time=1-04:00:00",
            "#SBATCH --partition=gpu",
            "#SBATCH --account=lab",
            "#SBATCH --qos=low",
            "#SBATCH --gpus=a100:1",
            "#SBATCH --mem=16G",
            "#SBATCH --open-mode=append",
            "#SBATCH --requeue",
            "#SBATCH --constraint=a100|h100",
            "#SBATCH --exclusive",
            "module load cuda",
            "exec harness work 'sweep file.yaml' optim.lr=1 --results=results",
        ]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"time_limit": "3m"}, "launcher slurm: time_limit: 3m leaves no time to train: .* at least 240s"),
            ({"time_limit": 14400}, "time_limit: expected a duration as 4h, 90m, .*, the last in quotes, got 14400"),
            ({"time_limit": "4"}, "time_limit: expected a duration as 4h, .*, got '4'"),
            ({"partitoin": "gpu"}, "partitoin: unknown key 'partitoin'; choices: .* Did you mean partition"),
            ({"partition": "gpu\n#SBATCH --uid=0"}, "partition: expected one word"),
            ({"sbatch": ["--array=0-9"]}, "sbatch.0: --array is set by the launcher"),
            ({"sbatch": ["-t5"]}, "sbatch.0: -t5 is set by the launcher"),
            (
                {"sbatch": ["constraint=a100"]},
                "sbatch.0: expected an option as --constraint=a100, got 'constraint=a100'",
            ),
            ({"cpus": 0}, "cpus: "),
        ],
    )
    def test_what_cannot_work_is_refused_before_anything_starts(self, options: Mapping[str, Any], message: str) -> None:
        assert re.search(message, refused(options)), refused(options)

    @pytest.mark.parametrize(
        ("said", "told"),
        [
            (
                "sbatch: error: invalid partition specified: gpu\nallocation failure: Invalid partition name specified",
                "invalid partition specified: gpu; allocation failure: Invalid partition name specified",
            ),
            ("sbatch: error: Invalid --mem specification\n", "Invalid --mem specification"),
            (
                "sbatch: unrecognized option '--foo'\nTry \"sbatch --help\" for more information\n",
                "unrecognized option '--foo'",
            ),
            ("allocation failure: Requested node configuration is not available\n", None),  # so it is if nodes are down
            ("allocation failure: Required partition not available (inactive or drain)\n", None),
            ("sbatch: error: Batch job submission failed: Unable to contact slurm controller\n", None),
            ("allocation failure: Job violates accounting/QOS policy (job submit limit)\n", None),  # by our own jobs
            (None, None),
        ],
    )
    def test_what_sbatch_will_never_take_is_refused(
        self, said: str | None, told: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where Slurm cannot say, or what it says may pass, the launch goes on."""
        asked = []

        def ask(*command: str, text: str, timeout_s: float) -> subprocess.CompletedProcess[str] | None:
            asked.append((command, "#SBATCH --partition=gpu" in text, "#SBATCH --array=0-0" in text))
            return None if said is None else subprocess.CompletedProcess(command, 1, "", said)

        monkeypatch.setattr(SlurmLauncher, "needs", classmethod(lambda cls: None))
        monkeypatch.setattr(slurm_launcher, "_ask", ask)
        if told is None:
            assert choose_launcher("slurm", 9, {"partition": "gpu"}).num_workers == 9
        else:
            assert refused({"partition": "gpu"}) == f"launcher slurm: sbatch does not take its options: {told}"
        assert asked == [(("sbatch", "--test-only"), True, True)]

    def test_a_limit_needs_only_its_notice(self) -> None:
        assert choose_launcher("slurm", 1, {"time_limit": "130s", "notice": "10s"}).name == "slurm"

    def test_without_slurm_nothing_starts(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(UserError, match="launcher slurm: sbatch and squeue not on the PATH"):
            choose_launcher("slurm", 1).for_work(WORK)


class TestSlurmWorkers:
    """What it submits, with squeue's and sbatch's answers written by hand."""

    @pytest.fixture
    def answers(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
        """`jobs`: squeue's lines; `ended`: what scontrol says of all jobs; `submitted`: the arrays that were."""
        said: dict[str, Any] = {"jobs": [], "ended": None, "submitted": []}

        def ask(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str] | None:
            if command[0] in ("squeue", "scontrol"):
                out = said["jobs" if command[0] == "squeue" else "ended"]
                return None if out is None else subprocess.CompletedProcess(command, 0, "\n".join(out), "")
            assert text is not None and f"--mark={mark_of(tmp_path)}" in text
            said["submitted"].append(next(line for line in text.splitlines() if "--array" in line))
            return subprocess.CompletedProcess(command, 0, f"{40 + len(said['submitted'])};cluster\n", "")

        monkeypatch.setattr(slurm_launcher, "_ask", ask)
        return said

    def test_missing_workers_are_submitted_and_no_more(self, answers: dict[str, Any], tmp_path: Path) -> None:
        launcher = SlurmLauncher(lambda event: None, 4)

        def care(num_left: int, *jobs: str) -> list[str]:
            answers["jobs"] = list(jobs)
            launcher.look_after_workers(tmp_path, num_left)
            made, answers["submitted"][:] = list(answers["submitted"]), []
            return made

        assert care(3) == ["#SBATCH --array=0-2"]  # no more than can be used
        both = ("41|RUNNING|None|n1", "41|PENDING|Resources|")
        assert care(3, *both, "41|RUNNING|None|n2", "7|RUNNING|None|n3") == []
        assert care(2, *both) == []
        assert care(3, *both) == [] and care(3, *both) == ["#SBATCH --array=0-0"]  # missing twice in a row
        assert care(3, "41|COMPLETING|None|n1", *both) == []
        answers["jobs"] = None
        launcher.look_after_workers(tmp_path, 3)
        assert answers["submitted"] == []
        # The same command, begun again, knows the jobs of the one before it.
        launcher = SlurmLauncher(lambda event: None, 4)
        assert care(1, *both[:1]) == []

    def test_workers_that_end_in_vain_are_not_submitted_for_ever(self, answers: dict[str, Any], tmp_path: Path) -> None:
        launcher = SlurmLauncher(lambda event: None, 1)
        trial = tmp_path / "records" / "a"
        trial.mkdir(parents=True)
        for number in range(3):
            (trial / "checkpoint.safetensors").write_text("an epoch")
            os.utime(trial / "checkpoint.safetensors", (number, number))
            launcher.look_after_workers(tmp_path, 1)
            launcher.look_after_workers(tmp_path, 1)
        with pytest.raises(
            TrialError, match=r"ended 3 times in a row without an epoch; their logs are in .*/slurm, or"
        ):
            for _ in range(9):
                launcher.look_after_workers(tmp_path, 1)

    def test_a_worker_that_refuses_ends_the_launch(self, answers: dict[str, Any], tmp_path: Path) -> None:
        """By its log, also where Slurm has forgotten the job."""
        launcher = SlurmLauncher(lambda event: None, 2)
        launcher.look_after_workers(tmp_path, 2)
        line = not_seen("n7", tmp_path)
        (tmp_path / "slurm" / "40_0.log").write_text(f"harness: {line} (in a launch before)\n")
        os.utime(tmp_path / "slurm" / "40_0.log", (time.time() - 100,) * 2)
        (tmp_path / "slurm" / "41_0.log").write_text("training\n")
        (tmp_path / "slurm" / "41_1.log").write_text(f"cuda is loaded\nharness: {line}\n")
        launcher.look_after_workers(tmp_path, 2)
        with pytest.raises(UserError) as caught:
            launcher.look_after_workers(tmp_path, 2)
        assert str(caught.value) == f"launcher slurm: {line}" and len(answers["submitted"]) == 1

    @pytest.mark.parametrize(
        ("state", "node", "has_log", "is_told"),
        [
            ("FAILED", "n7", False, True),
            ("FAILED", "n7", True, False),  # of something else, which stands there
            ("FAILED", "", False, False),
            ("NODE_FAIL", "n7", False, False),
            ("CANCELLED", "n7", False, False),
        ],
    )
    def test_a_job_that_fails_and_leaves_no_log_here_saw_another_folder(
        self, state: str, node: str, has_log: bool, is_told: bool, answers: dict[str, Any], tmp_path: Path
    ) -> None:
        launcher = SlurmLauncher(lambda event: None, 2)
        launcher.look_after_workers(tmp_path, 2)
        (tmp_path / "slurm" / "41_0.log").write_text("training\n")
        if has_log:
            (tmp_path / "slurm" / "41_1.log").write_text("no module cuda\n")
        head = "JobId=4{} ArrayJobId=41 ArrayTaskId={} JobName=harness x JobState={} ExitCode=0:53 BatchHost={}"
        answers["ended"] = [
            f"{head.format(1, 1, state, node)} Comment=JobState=FAILED",
            head.format(2, 0, "COMPLETED", "n1"),
        ]
        launcher.look_after_workers(tmp_path, 2)
        if not is_told:
            launcher.look_after_workers(tmp_path, 2)
            assert len(answers["submitted"]) == 2
            return
        with pytest.raises(UserError, match=rf"launcher slurm: n7 {REFUSAL}, {tmp_path}; .*41_1"):
            launcher.look_after_workers(tmp_path, 2)
        assert len(answers["submitted"]) == 1

    def test_where_workers_are_is_told(self) -> None:
        jobs = [("RUNNING", "None", "n2"), ("PENDING", "Resources", ""), ("RUNNING", "None", "n1")]
        assert slurm_launcher.describe([*jobs, ("PENDING", "Priority", ""), ("SUSPENDED", "None", "n1")]) == (
            "2 running on n1, n2; 1 suspended; 1 waiting (Priority); 1 waiting (Resources)"
        )


@pytest.mark.slow
def test_slurm_takes_the_script_with_every_option(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real sbatch, a folder with a space and all options that this cluster knows."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    options = SlurmOptions(time_limit="5m", partition="short", memory="100M", sbatch=("--nice=10",), program="echo")
    monkeypatch.chdir(folder)
    text = script(options, 2, WORK, str(folder), "harness-x")
    done = subprocess.run(["sbatch", "--wait"], input=text, env=slurm.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [log.read_text() for log in folder.glob("*_?.log")] == [f"{' '.join(WORK)}\n"] * 2


@pytest.fixture
def on_slurm(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """The real Slurm, for launchers of this process."""
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)
    return slurm


@pytest.mark.slow
def test_slurm_tells_of_wrong_options_at_once(on_slurm: Slurm) -> None:
    """And lets a launch begin whose jobs would only have to wait."""
    for wrong in ({"partition": "gpu"}, {"gpus": 1}, {"memory": "64Q"}, {"sbatch": ["--constraint=a100"]}):
        assert re.search(r"sbatch does not take its options: .*invalid", refused(wrong), re.IGNORECASE), wrong
    on_slurm.ask("scontrol", "update", "node=n1,n2", "state=drain", "reason=test")
    try:
        assert choose_launcher("slurm", 200, {"memory": "100M"}).name == "slurm"
    finally:
        on_slurm.ask("scontrol", "update", "node=n1,n2", "state=resume")


@pytest.mark.slow
def test_slurm_tells_on_which_node_a_worker_had_no_folder_for_its_log(
    on_slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the path of the results is local on each node: the job fails before there is a worker."""
    there = tmp_path / "of_the_node" / "slurm"
    monkeypatch.setattr(
        slurm_launcher,
        "script",
        lambda options, count, work, logs, name: script(options, count, work, str(there), name),
    )
    launcher = SlurmLauncher(lambda event: None, 2, options=SlurmOptions(program="echo"))
    deadline = time.monotonic() + 60
    with pytest.raises(UserError, match=rf"launcher slurm: n[12] {REFUSAL}, {tmp_path}; .*job \d+_[01]"):
        while time.monotonic() < deadline:
            launcher.look_after_workers(tmp_path, 2)
            time.sleep(0.5)
    assert len(read_lines(tmp_path / slurm_launcher.JOBS)) == 1
