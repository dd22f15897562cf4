"""Sweeps written by hand, for the tests of settings and of files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.config.trees import merge

L2 = "adapter.adapter_strategy.l2_lambda"
LR: dict[str, Any] = {"type": "log_float", "low": 1e-4, "high": 1e-1}
LAMBDA: dict[str, Any] = {"type": "zero_or_log", "low": 1e-6, "high": 1e-2, "arms": ["residual_add"]}
NO_PRUNER = {"name": "none"}

SWEEP: dict[str, Any] = {
    "name": "by_hand",
    "experiment": "tiny_strategies.yaml",
    "space": {"optim.lr": LR},
    "objectives": [{"metric": "valid_target/macro_f1"}],
    "pruner": {"name": "median"},
    "budget": {"trials": 4},
    "search": {"seeds": [1000]},
    "confirm": {"seeds": [0, 1]},
}


def changed(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The sweep with some things changed: a space or a budget replaces the other one, mappings are merged."""
    whole = {key: value for key, value in changes.items() if key in ("space", "budget")}
    return {**merge(SWEEP, {key: value for key, value in changes.items() if key not in whole}), **whole}


def write_sweep(experiment: Path, folder: Path, changes: Mapping[str, Any]) -> Path:
    """Write the sweep beside a copy of an experiment; returns its path."""
    (folder / "tiny_strategies.yaml").write_text(experiment.read_text(encoding="utf-8"), encoding="utf-8")
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(changed(changes), sort_keys=False), encoding="utf-8")
    return path
