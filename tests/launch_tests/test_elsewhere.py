"""Launchers that start `harness work` elsewhere and follow the records: shell and slurm."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from slurm import Slurm
from small_experiments import Plan, misbehaving

from harness.errors import TrialError, UserError
from harness.launch import elsewhere
from harness.launch import slurm as slurm_launcher
from harness.launch.events import Done, Failed, TrialEvent
from harness.launch.launcher import launch
from harness.launch.launchers import LAUNCHERS, LauncherChoice, choose_launcher, launcher_type
from harness.launch.run_experiment import run_experiment
from harness.launch.slurm import SlurmLauncher, SlurmOptions, script

WORK = ("work", "sweep file.yaml", "optim.lr=1", "--results=results")
FROZEN = {"train": "none", "adapter": None}
AT_ONCE = {"POLL_S": 0.02, "CARE_S": 0.05}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in AT_ONCE.items():
        monkeypatch.setattr(elsewhere, name, seconds)


def chosen(name: str = "shell", jobs: int = 1, **options: Any) -> LauncherChoice:
    return replace(choose_launcher(name, jobs, options), work=WORK)


def refused(options: Mapping[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        choose_launcher(None, 1, {"name": "slurm", **options}, "s.yaml: launcher")
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestFollowing:
    def test_it_tells_what_the_records_of_workers_say(
        self, plan: Plan, events: list[TrialEvent], capsys: pytest.CaptureFixture[str]
    ) -> None:
        made = plan({"frozen": FROZEN, "broken": misbehaving("raise"), "head": {"train": "head", "adapter": None}})
        worker = threading.Thread(target=lambda: run_experiment(made, 1, lambda event: None))
        with chosen().make(events.append) as launcher:
            assert not launcher.trains
            for task in made.pending:
                launcher.submit(task)
            assert launcher.num_in_flight == 3 < launcher.capacity
            launcher.pump(0.1)
            assert events == []
            worker.start()
            launch(launcher, ())
        worker.join()
        done = {event.task.title: event.summary.state.value for event in events if isinstance(event, Done)}
        assert done == {"frozen/seed0": "complete", "broken/seed0": "failed", "head/seed0": "complete"}
        assert not [event for event in events if isinstance(event, Failed)]
        assert capsys.readouterr().err.count("start workers on any machine") == 1

    def test_what_failed_before_is_waited_for_and_what_fails_now_is_told(
        self, plan: Plan, events: list[TrialEvent]
    ) -> None:
        arms = {"broken": misbehaving("raise")}
        run_experiment(plan(arms), 1, lambda event: None)
        again = plan(arms, retry_failed=True)  # its tries are used up, so it is asked for
        os.utime(again.pending[0].folder / "summary.json", (time.time() - 100,) * 2)
        with chosen().make(events.append) as launcher:
            launcher.submit(again.pending[0])
            launcher.pump(0.1)
            assert events == []
            run_experiment(again, 1, lambda event: None)
            launcher.pump(10)
        assert [event.summary.state.value for event in events if isinstance(event, Done)] == ["failed"]


class TestShell:
    def test_its_command_starts_a_worker(self) -> None:
        preview = launcher_type("shell").preview(chosen().options, 1, WORK)
        assert preview is not None
        told = subprocess.run(
            ["sh", "-c", f"python3() {{ :; }}; set -- {preview.partition('&&')[2]}; printf '%s\\n' \"$@\""],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        assert told[1:] == ["-m", "harness", *WORK] and preview.startswith(f"cd {os.getcwd()} && ")
        named = launcher_type("shell").preview(chosen(program="/env/bin/harness").options, 1, WORK)
        assert named is not None and named.endswith(
            "&& /env/bin/harness work 'sweep file.yaml' optim.lr=1 --results=results"
        )

    @pytest.mark.parametrize(
        ("work", "message"),
        [
            ((), "launcher shell: it starts `harness work FILE`, so give a file"),
            (
                ("work", "storage=postgresql://me:secret@h/d"),
                r"launcher shell: 'storage=postgresql://me:\*\*\*@h/d' can",
            ),
        ],
    )
    def test_what_no_command_can_say_is_refused(self, work: tuple[str, ...], message: str) -> None:
        with pytest.raises(UserError, match=message):
            choose_launcher("shell", 1).for_work(work)


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

    def test_a_limit_needs_only_its_notice(self) -> None:
        assert choose_launcher("slurm", 1, {"time_limit": "130s", "notice": "10s"}).name == "slurm"

    def test_without_slurm_nothing_starts(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(UserError, match="launcher slurm: sbatch and squeue not on the PATH"):
            choose_launcher("slurm", 1).for_work(WORK)


class TestSlurmWorkers:
    """What it submits, with squeue's and sbatch's answers written by hand."""

    @pytest.fixture
    def answers(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """`jobs`: squeue's lines; `submitted`: the arrays that were."""
        said: dict[str, Any] = {"jobs": [], "submitted": []}

        def ask(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str] | None:
            if command[0] == "squeue":
                out = said["jobs"]
                return None if out is None else subprocess.CompletedProcess(command, 0, "\n".join(out), "")
            assert text is not None
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
        with pytest.raises(TrialError, match=r"ended 3 times in a row without an epoch; their logs are in .*/slurm"):
            for _ in range(9):
                launcher.look_after_workers(tmp_path, 1)

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


def test_every_launcher_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    told: dict[str, str | None] = {name: launcher_type(name).needs() for name in LAUNCHERS}
    assert told["in_process"] is told["processes"] is told["shell"] is None
    assert told["slurm"] == "sbatch and squeue not on the PATH; run this on a machine that can submit jobs"
