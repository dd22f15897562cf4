"""What a race may be decided on."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_experiments import Plan

from harness.engines.choice import EngineChoice
from harness.errors import TrialError
from harness.sweep.race import Launch, train_all
from harness.training.checkpoint import Checkpoint, save_checkpoint


def test_a_race_waits_for_a_training_that_could_not_be_written(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and the same command goes on: else the contender would drop out, and another one could win."""
    planned = plan({"one": {}, "two": {"optim": {"lr": 0.03}}})
    one, two = planned.pending
    run = Launch(planned.store.results, 1, lambda event: None, EngineChoice("plain"))

    def fill_disk(path: Path, checkpoint: Checkpoint, *, sync: bool) -> None:
        if path.parent == two.folder:
            raise TrialError("disk", f"{path}: cannot be written: No space left on device")
        save_checkpoint(path, checkpoint, sync=sync)

    with monkeypatch.context() as patch, pytest.raises(TrialError, match="No space left on device"):
        patch.setattr("harness.training.loop.save_checkpoint", fill_disk)
        train_all([one, two], run)
    assert train_all([one, two], run).keys() == {one.config.trial_id, two.config.trial_id}
