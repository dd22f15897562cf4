"""Launchers that start `harness work` elsewhere and follow the records: shell, and what slurm has in common with it."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_experiments import Plan, misbehaving

from harness.errors import UserError
from harness.launch import elsewhere
from harness.launch.events import Done, Failed, TrialEvent
from harness.launch.launcher import launch
from harness.launch.launchers import LAUNCHERS, LauncherChoice, choose_launcher, launcher_type
from harness.launch.run_experiment import run_experiment
from harness.launch.same_folder import mark_of

WORK = ("work", "sweep file.yaml", "optim.lr=1", "--results=results")
FROZEN = {"train": "none", "adapter": None}
AT_ONCE = {"POLL_S": 0.02, "CARE_S": 0.05}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in AT_ONCE.items():
        monkeypatch.setattr(elsewhere, name, seconds)


def chosen(name: str = "shell", jobs: int = 1, **options: Any) -> LauncherChoice:
    return replace(choose_launcher(name, jobs, options), work=WORK)


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
            told = capsys.readouterr().err
            worker.start()
            launch(launcher, ())
        worker.join()
        done = {event.task.title: event.summary.state.value for event in events if isinstance(event, Done)}
        assert done == {"frozen/seed0": "complete", "broken/seed0": "failed", "head/seed0": "complete"}
        assert not [event for event in events if isinstance(event, Failed)]
        told += capsys.readouterr().err
        assert told.count("start workers on any machine") == 1
        assert told.rstrip().endswith(f"--results=results --mark={mark_of(made.store.path)}")

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


def test_every_launcher_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    told: dict[str, str | None] = {name: launcher_type(name).needs() for name in LAUNCHERS}
    assert told["in_process"] is told["processes"] is told["shell"] is None
    assert told["slurm"] == "sbatch and squeue not on the PATH; run this on a machine that can submit jobs"
