"""What lands in TensorBoard's event files."""

from __future__ import annotations

from pathlib import Path

from harness.tracking.tensorboard_tracker import TensorboardTracker

from .event_files import read_scalars
from .launched import entry
from .test_trackers import show, trial_of


def test_curves_and_the_end(tmp_path: Path) -> None:
    show(TensorboardTracker(tmp_path), trial_of("abc"))
    found = read_scalars(tmp_path / "tensorboard" / "residual_add" / "seed3-abc")
    assert found["train/loss"] == [(1, 1.0), (2, 0.5)]
    assert found["final/target_accuracy"] == [(2, 0.625)]


def test_a_trial_that_is_begun_again_leaves_one_curve(tmp_path: Path) -> None:
    trial = trial_of("abc")
    first = TensorboardTracker(tmp_path)
    first.open(trial)
    first.log(trial, [entry(1)])
    show(TensorboardTracker(tmp_path), trial)
    assert read_scalars(tmp_path / "tensorboard")["train/loss"] == [(1, 1.0), (2, 0.5)]


def test_a_search_s_trial_and_the_race_s_on_another_seed_are_two(tmp_path: Path) -> None:
    tracker = TensorboardTracker(tmp_path)
    for trial_id in ("one", "two"):
        show(tracker, trial_of(trial_id, phase="search", number=7))
    assert {path.name for path in (tmp_path / "tensorboard" / "residual_add").iterdir()} == {"trial7-one", "trial7-two"}
