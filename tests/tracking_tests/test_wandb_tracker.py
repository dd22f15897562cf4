"""What lands in W&B's transaction log (offline), and names that are longer than W&B takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.records.trial_run import TrialRun
from harness.tracking.client import MAX_TAG
from harness.tracking.tracker import TrackedTrial
from harness.tracking.wandb_tracker import WandbTracker

from .launched import CONFIG, entry
from .test_trackers import show, summary_of, trial_of
from .transaction_log import LoggedRun, read_finished_run


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


def logs(directory: Path) -> list[Path]:
    return sorted(directory.glob("wandb/offline-run-*/run-*.wandb"))


def only_run(directory: Path) -> LoggedRun:
    (path,) = logs(directory)
    return read_finished_run(path)


def told(values: dict[str, Any]) -> dict[str, Any]:
    """Without wandb's own keys."""
    return {key: value for key, value in values.items() if not key.startswith("_")}


def test_a_complete_trial(tmp_path: Path) -> None:
    trial, tracker = (
        TrackedTrial(TrialRun("abc123", "text", "residual_add", 3, "confirm"), CONFIG),
        WandbTracker(tmp_path),
    )
    tracker.open(trial)
    for epoch in (1, 2, 3):
        tracker.log(trial, [entry(epoch)])
    tracker.close(trial, summary_of("abc123").model_copy(update={"costs": {"seconds": 12.5}}), "hash")
    run = only_run(tmp_path)
    assert (run.run_id, run.group, run.job_type) == ("abc123", "text", "confirm")
    assert (run.name, run.project, run.exit_code) == ("residual_add/seed3", "harness", 0)
    assert run.tags == ("residual_add", "complete")
    assert told(run.config) == CONFIG | {"arm": "residual_add", "experiment": "text"}
    assert [told(row) for row in run.history] == [entry(n)["metrics"] | {"epoch": n} for n in (1, 2, 3)]
    assert [row["_step"] for row in run.history] == [1, 2, 3]
    final = {"state": "complete", "final/target_accuracy": 0.625, "final/seconds": 12.5}
    assert (final | {"harness_content": "hash"}).items() <= run.summary.items()


def test_a_failed_trial(tmp_path: Path) -> None:
    show(WandbTracker(tmp_path), trial_of("abc"), "failed")
    run = only_run(tmp_path)
    assert (run.tags, run.summary["state"]) == (("residual_add", "failed:nan"), "failed:nan")
    assert (run.exit_code, len(run.history)) == (1, 2)


def test_a_pruned_trial_of_a_search(tmp_path: Path) -> None:
    show(WandbTracker(tmp_path), trial_of("abc", "depth", "search", 7), "pruned")
    run = only_run(tmp_path)
    assert (run.name, run.group, run.job_type) == ("depth/trial7", "small", "search")
    assert (run.tags, run.summary["state"], run.exit_code) == (("depth", "pruned@2"), "pruned@2", 0)
    assert (run.config["number"], run.config["search/optim.lr"]) == (7, 1e-3)


def test_a_trial_that_starts_again_leaves_one_run(tmp_path: Path) -> None:
    """The part that a killed process left would be a second run with the same id when it is synced."""
    tracker = WandbTracker(tmp_path)
    show(tracker, trial_of("other"))
    stale = tmp_path / "wandb" / "offline-run-20260101_000000-abc"
    stale.mkdir()
    (stale / "run-abc.wandb").write_bytes(b"cut")
    show(WandbTracker(tmp_path), trial_of("abc"))
    show(tracker, trial_of("abc"))
    runs = {run.run_id: len(run.history) for run in map(read_finished_run, logs(tmp_path))}
    assert runs == {"abc": 2, "other": 2} and len(list(tmp_path.glob("wandb/offline-run-*"))) == 2


def test_long_names_are_shortened_and_told_whole_in_the_config(tmp_path: Path) -> None:
    arms = [f"stochastic depth=0.5, l2 lambda=0.001, bottleneck=8, weight decay={decay}" for decay in (0.01, 0.02)]
    tracker = WandbTracker(tmp_path)
    for number, arm in enumerate(arms):
        trial = TrackedTrial(TrialRun(f"id{number}", "long " * 40, arm, 3, "confirm"), CONFIG)
        tracker.open(trial)
        tracker.close(trial, summary_of(f"id{number}"), None)
    runs = {run.run_id: run for run in map(read_finished_run, logs(tmp_path))}
    tags = [runs[f"id{number}"].tags[0] for number in (0, 1)]
    assert len(set(tags)) == 2 and all(len(tag) == MAX_TAG and tag[:40] == arms[0][:40] for tag in tags)
    assert {run.group for run in runs.values()} == {runs["id0"].group} and len(runs["id0"].group) == 128
    assert [runs[f"id{number}"].config["arm"] for number in (0, 1)] == arms
    assert runs["id0"].config["experiment"] == "long " * 40


def test_a_relative_folder_is_that_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb's service is another process, and keeps the folder in which the first run was started."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        show(WandbTracker(Path("results")), trial_of(name))
    assert only_run(tmp_path / "first" / "results").run_id == "first"
    assert only_run(tmp_path / "second" / "results").run_id == "second"


def test_project_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    show(WandbTracker(tmp_path), trial_of("abc"))
    assert only_run(tmp_path).project == "mine"
