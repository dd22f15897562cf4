"""The command `harness plan`: what a sweep or an experiment would train, and what it would cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from harness.cli.options import RESULTS, Jobs, LauncherName, Overrides, Results, file_argument
from harness.errors import UserError


def plan(
    file: Annotated[Path, file_argument("sweep", "experiment")],
    overrides: Overrides = None,
    jobs: Jobs = 1,
    results: Results = RESULTS,
    launcher: LauncherName = None,
) -> None:
    """Show what a sweep or an experiment would train and cost. Only a short probe is trained.

    Where its launcher starts workers elsewhere, what it would start is shown as well.
    """
    from harness.api.inputs import add_user_code, user_file
    from harness.cli.views.plan import print_plan, print_preview
    from harness.config.kinds import WHAT, kinds_of
    from harness.config.yaml import read_yaml
    from harness.launch.launchers import choose_launcher
    from harness.launch.work import work_arguments
    from harness.sweep.elsewhere import num_at_first
    from harness.sweep.plan import plan_experiment, plan_sweep

    path = user_file(file, "sweep", "experiment")
    content = read_yaml(path)
    kinds, where = kinds_of(content), f"{path}: launcher"
    if kinds == ("sweep",):
        from harness.search.sweep_files import load_sweep

        sweep = load_sweep(path, overrides or [])
        add_user_code(sweep.experiment.path)
        chosen = choose_launcher(launcher, jobs, sweep.launcher, where, overrides=overrides or [])
        made = plan_sweep(sweep, results, jobs)
        work = work_arguments(file, overrides, results, "auto", None)
        num_left = num_at_first(made, sweep.config.search.lag)
    elif kinds == ("experiment",):
        from harness.config.experiment import load_experiment

        experiment = load_experiment(path, overrides or [])
        chosen = choose_launcher(launcher, jobs, experiment.config.launcher, where, overrides=overrides or [])
        made = plan_experiment(experiment, experiment.trials, results, jobs)
        work, num_left = work_arguments(file, overrides, results, "plain", None), num_at_first(made)
    elif len(kinds) == 1:
        raise UserError(f"{path}: expected a sweep or an experiment, but this is {WHAT[kinds[0]]}")
    else:
        raise UserError(
            f"{path}: it is neither a sweep, which has `space`, nor an experiment, which has `seeds`, and `arms` or "
            f"`design`; its keys: {', '.join(map(str, content)) or 'nothing'}"
        )
    print_plan(made)
    print_preview(chosen, work, num_left)
