"""The search whose training is simulated is a real one: each trial has its record, once."""

from __future__ import annotations

from pathlib import Path

import pytest
from study_overhead import run_study

from harness.training import run_trial


@pytest.mark.slow
def test_every_trial_is_recorded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(run_trial), "Trial", vars(run_trial)["Trial"])  # what the study replaces is put back
    monkeypatch.setenv("WANDB_MODE", "disabled")
    found = run_study("random", "median", "none", 12, 0.0, tmp_path)
    assert (found["trials"], found["lost"], found["trained_twice"]) == (12, 0, 0)
    assert found["cpu_s"] > 0 and found["next_ms"] > 0
