"""Fixtures of the tests that launch: a small experiment, planned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml
from tiny_text import TinyText

from harness.config.experiment import load_experiment
from harness.config.trees import merge
from harness.launch.events import TrialEvent
from harness.launch.run_experiment import RunPlan, plan_run
from harness.records.schema import Summary

SIZES = {"data": {"train_limit": 24}, "loop": {"epochs": 2, "batch_size": 8}}


class Plan(Protocol):
    """The fixture `plan`."""

    def __call__(
        self,
        arms: Mapping[str, Any] | None = None,
        seeds: Sequence[int] = (0,),
        *,
        base: Mapping[str, Any] | None = None,
        results: str = "results",
        retry_failed: bool = False,
    ) -> RunPlan:
        """Plan the small experiment with these arms (by default frozen, head_only, residual_add); `base` is merged."""


@pytest.fixture
def plan(tiny_text_files: TinyText, tmp_path: Path) -> Plan:
    """A function that writes the small experiment and plans it, with its results in `tmp_path`."""
    settings = yaml.safe_load(tiny_text_files.experiment.read_text(encoding="utf-8"))

    def make(
        arms: Mapping[str, Any] | None = None,
        seeds: Sequence[int] = (0,),
        *,
        base: Mapping[str, Any] | None = None,
        results: str = "results",
        retry_failed: bool = False,
    ) -> RunPlan:
        changes = {
            "name": "small",
            "base": merge(merge(settings["base"], SIZES), base or {}),
            "arms": dict(arms or settings["arms"]),
            "seeds": list(seeds),
            "table": {},
        }
        path = tiny_text_files.write_experiment(tmp_path / "small.yaml", **changes)
        experiment = load_experiment(path)
        where = tmp_path / results
        return plan_run(experiment, experiment.trials, where, retry_failed=retry_failed)

    return make


@pytest.fixture
def events() -> list[TrialEvent]:
    """Where a launch tells its events to (`launch(tasks, events.append)`)."""
    return []


def misbehaving(how: str, **options: Any) -> dict[str, Any]:
    """An arm whose strategy goes wrong (see tests/misbehaving.py)."""
    return {"adapter": {"adapter_strategy": {"_target_": "misbehaving.Misbehaving", "how": how, **options}}}


def comparable(summary: Summary) -> dict[str, Any]:
    """What a trial's config determines: everything but its costs."""
    return summary.model_dump(mode="json", exclude={"costs"})


def log_of(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """Epochs and metrics of a record's log."""
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(entry["epoch"], entry["metrics"]) for entry in entries]


def num_starts(folder: Path) -> int:
    """How often a trial was started."""
    return len((folder / "starts.jsonl").read_text(encoding="utf-8").splitlines())
