"""Real records of the tiny experiment and of a tiny sweep, trained in this process (fixture `tiny_results`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from harness.cli.run import show_table
from harness.cli.sweep import search_and_freeze
from harness.config.experiment import load_experiment
from harness.launch.run_experiment import plan_run, run_experiment
from harness.search.sweep_files import load_sweep
from harness.sweep.race import Launch
from harness.sweep.run_sweep import confirm_experiment

STRATEGY = "adapter.adapter_strategy"
SWEEP: dict[str, Any] = {
    "name": "tiny_sweep",
    "description": "Tiny sentences, tuned",
    "experiment": "tiny_strategies.yaml",
    "settings": {"loop.epochs": 3},
    "arms": ["frozen", "residual_add"],
    "space": {
        "optim.lr": {"type": "log_float", "low": 1e-3, "high": 1e-1},
        f"{STRATEGY}.stochastic_depth": {"type": "float", "low": 0.0, "high": 0.9, "arms": ["residual_add"]},
        f"{STRATEGY}.l2_lambda": {"type": "zero_or_log", "low": 1e-6, "high": 1e-2, "arms": ["residual_add"]},
    },
    "objectives": [{"metric": "valid_target/loss"}],
    "constraints": [{"metric": "valid_forgetting", "at_most": -0.05}],  # hardly met, so that trials are pruned
    "sampler": {"name": "random"},
    "pruner": {"name": "median", "options": {"n_startup_trials": 2, "n_warmup_steps": 0}},
    "budget": {"trials": 9},
    "search": {"seeds": [1000], "lag": 1},
    "race": {"candidates": 2, "seeds": [1001, 1011]},
    "confirm": {"seeds": [0, 1], "rules": ["best", "one_se"]},
}


def train_experiment(path: Path, results: Path) -> None:
    """Train an experiment, and write its table."""
    experiment = load_experiment(path)
    plan = plan_run(experiment, experiment.trials, results)
    report = run_experiment(plan, 1, lambda event: None)
    assert not report.failures, report.failures
    show_table(plan.store)


def train_sweep(experiment: Path, folder: Path, results: Path) -> None:
    """Search, race, freeze, confirm; write its table."""
    (folder / "tiny_strategies.yaml").write_text(experiment.read_text(encoding="utf-8"), encoding="utf-8")
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(SWEEP, sort_keys=False), encoding="utf-8")
    sweep = load_sweep(path)
    run = Launch(results, 1, lambda event: None)
    result, frozen = search_and_freeze(sweep, run)
    confirmed = confirm_experiment(sweep, result, frozen)
    plan = plan_run(confirmed, confirmed.trials, results)
    report = run_experiment(plan, 1, lambda event: None)
    assert not report.failures, report.failures
    show_table(plan.store)
