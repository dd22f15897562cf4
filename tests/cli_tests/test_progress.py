"""Progress lines and bars."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cli.progress import Progress, outcome_line, run_progress
from harness.config.trial import TrialConfig
from harness.launch.events import Busy, Done, Epoch, Failed, Note
from harness.launch.task import TrialTask
from harness.records.schema import Summary, TrialState
from harness.records.trial_run import TrialRun


def task(seed: int, epochs: int = 3, train: str = "full") -> TrialTask:
    config = TrialConfig.model_validate(
        {
            "data": {"corpus": "c", "source": ["s"], "target": "t"},
            "backbone": {"recipe": "r"},
            "train": train,
            "loop": {"epochs": epochs},
            "seed": seed,
        }
    )
    return TrialTask(config, TrialRun(config.trial_id, "e", "arm", seed, "confirm"), Path("nowhere"))


def summary(state: TrialState = TrialState.COMPLETE, **fields: Any) -> Summary:
    numbers = {"target_cer": 0.1234, "forgetting": 0.01, "source_cer": 0.5}
    return Summary(trial_id="x", state=state, metrics=numbers, costs={"seconds": 7.4}, epochs_run=2, **fields)


def test_outcome_lines() -> None:
    done = Done(task(0), summary())
    assert outcome_line(done) == "target_cer 12.3 %, source_cer 50.0 %  (2 epochs, 7 s)"
    giver = replace(task(0), run=replace(task(0).run, phase="part"))
    assert outcome_line(Done(giver, summary())) == "gives its weights to others  (2 epochs, 7 s)"
    bad = Done(task(0), summary(TrialState.FAILED, reason="nan", message="the loss is nan"))
    assert outcome_line(bad) == "failed: nan: the loss is nan"
    assert outcome_line(Failed(task(0), "its process was killed")) == ("failed: its process was killed")


def test_plain_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0, 130.0])  # the first trial takes 10 s for 3 of 12 epochs
    monkeypatch.setattr("harness.cli.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    tasks = (task(0, epochs=3), task(1, epochs=9))
    with run_progress(tasks, quiet=True) as progress:
        progress.hear(Epoch(tasks[0], {"epoch": 1}))
        progress.hear(Note(tasks[0], "wandb failed"))
        progress.hear(Done(tasks[0], summary()))
        progress.hear(Busy(tasks[1]))
        progress.hear(Failed(tasks[1], "gone"))
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "wandb failed",
        "[1/2] arm/seed0: target_cer 12.3 %, source_cer 50.0 %  (2 epochs, 7 s); about 30 s left",
        "[2/2] arm/seed1: failed: gone; about 0 s left",
    ]
    assert err == ""


@pytest.mark.parametrize("by_another", [False, True])
def test_a_trial_of_another_worker_is_told_as_that(by_another: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(lambda event: "good", num_planned=2) as progress:
        progress.hear(Done(task(0), summary(), by_another))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("[1/2] arm/seed0: good") and ("(by another worker)" in line) == by_another


def test_bars_count_epochs_and_early_stopping(capsys: pytest.CaptureFixture[str]) -> None:
    tasks = (task(0, epochs=5), task(1, train="none"))
    with Progress(outcome_line, bars=True, num_planned=2, num_epochs=6) as progress:
        bar = progress.rich.tasks[0]
        assert bar.total == 6  # a trial that trains nothing counts as one epoch
        for _ in range(2):
            progress.hear(Epoch(tasks[0], {"epoch": 2}))
        assert (bar.completed, bar.description) == (2, "arm/seed0 epoch 2")
        progress.hear(Done(tasks[0], summary()))
        assert bar.completed == 5  # stopped after 2 of 5
        progress.hear(Note(tasks[1], "[red]not markup[/red]"))
        progress.hear(Done(tasks[1], summary()))
        assert bar.completed == 6
    text = capsys.readouterr().out
    assert "arm/seed1: target_cer 12.3 %" in text
    assert "[red]not markup[/red]" in text


def test_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, tasks, quiet, bars in (
        (True, (task(0),), False, True),
        (True, (task(0),), True, False),
        (True, (), False, False),
        (False, (task(0),), False, False),
    ):
        monkeypatch.setattr("sys.stdout.isatty", lambda terminal=terminal: terminal)
        assert run_progress(tasks, quiet).bars == bars
