"""The command `harness plan`: what a sweep or an experiment would train, and what it would cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.cli.run import add_user_code
from harness.errors import UserError
from harness.yaml_files import read_yaml


def plan_command(path: Path, overrides: Sequence[str], jobs: int, results: Path) -> None:
    """Print the plan of a sweep or an experiment file, told apart by their keys.

    Raises:
        UserError: the file is neither, or something in it is wrong.
    """
    add_user_code(path)
    content = read_yaml(path)
    from harness.sweep.plan import plan_experiment, plan_sweep, print_plan

    if "space" in content:
        from harness.sweep.sweep_files import load_sweep

        print_plan(plan_sweep(load_sweep(path, overrides), results, jobs))
    elif "arms" in content and "seeds" in content:
        from harness.experiment_files import load_experiment

        experiment = load_experiment(path, overrides)
        print_plan(plan_experiment(experiment, experiment.trials, results, jobs))
    else:
        keys = ", ".join(map(str, content)) or "nothing"
        raise UserError(f"{path}: neither a sweep (space) nor an experiment (arms and seeds); it has {keys}")
