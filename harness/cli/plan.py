"""The command `harness plan`: what a sweep or an experiment would train, and what it would cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from harness.cli.run import add_user_code
from harness.config.yaml import read_yaml
from harness.engines.prices import duration
from harness.errors import UserError
from harness.sweep.plan import ArmPlan, Count, SweepPlan
from harness.tables.render.terminal import PIPE_WIDTH


def plan_command(path: Path, overrides: Sequence[str], jobs: int, results: Path) -> None:
    """Print the plan of a sweep or an experiment file, told apart by their keys.

    Raises:
        UserError: the file is neither, or something in it is wrong.
    """
    add_user_code(path)
    content = read_yaml(path)
    from harness.sweep.plan import plan_experiment, plan_sweep

    if "space" in content:
        from harness.search.sweep_files import load_sweep

        print_plan(plan_sweep(load_sweep(path, overrides), results, jobs))
    elif "arms" in content and "seeds" in content:
        from harness.config.experiment import load_experiment

        experiment = load_experiment(path, overrides)
        print_plan(plan_experiment(experiment, experiment.trials, results, jobs))
    else:
        keys = ", ".join(map(str, content)) or "nothing"
        raise UserError(f"{path}: neither a sweep (space) nor an experiment (arms and seeds); it has {keys}")


def print_plan(plan: SweepPlan, console: Console | None = None) -> None:
    """Print; in a pipe the table is as wide as it needs to be."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=PIPE_WIDTH)
    is_sweep = any(arm.searches for arm in plan.arms)
    grid = RichTable(title=escape(f"Plan of {plan.name}"), title_justify="left")
    grid.add_column("arm", overflow="fold")
    for title in ("searches", "search (trials)", "race (trainings)") if is_sweep else ():
        grid.add_column(title, overflow="fold")
    grid.add_column("confirm (trainings)" if is_sweep else "trainings", overflow="fold")
    for title in ("one training", "in all", "memory (MB)", "weights that learn"):
        grid.add_column(title, justify="right", overflow="fold")
    grid.add_column("priced by", overflow="fold")
    for arm in plan.arms:
        counts = [arm.searches or "nothing", *map(count_text, (arm.search, arm.race))] if is_sweep else []
        grid.add_row(*map(escape, [arm.name, *counts, count_text(arm.confirm), *_costs(arm)]))
    console.print(grid)
    for line in total_lines(plan):
        console.print(f"  {escape(line)}", highlight=False)


def count_text(count: Count) -> str:
    """How many are left and how many are finished."""
    if not count.planned:
        return "-"
    if not count.finished:
        return f"{count.new} new"
    return f"{count.new} new, {count.finished} finished" if count.new else f"{count.finished} finished"


def _costs(arm: ArmPlan) -> list[str]:
    price = arm.price
    if price is None:
        return ["-"] * 5
    return [
        "?" if price.seconds is None else duration(price.seconds),
        "?" if arm.seconds is None else duration(arm.seconds),
        "?" if price.peak_memory_mb is None else f"{price.peak_memory_mb:.0f}",
        "?" if price.trainable is None else f"{price.trainable:,}",
        price.source,
    ]


def total_lines(plan: SweepPlan) -> list[str]:
    """What the whole plan costs, in words."""
    if not plan.num_new and not any(arm.seconds for arm in plan.arms):
        return ["everything is finished: nothing is trained"]
    jobs = "1 job" if plan.num_jobs == 1 else f"{plan.num_jobs} jobs"
    memory = f"{plan.peak_memory_mb:.0f} MB of memory"
    if plan.num_jobs > 1:
        memory = f"{plan.num_jobs} x {memory}"
    lines = [
        f"at most {plan.num_new} trainings, about {duration(plan.wall_s)} with {jobs}, {memory}, "
        f"{plan.disk_mb:.1f} MB of disk"
    ]
    if any(arm.search.new or arm.race.new for arm in plan.arms):
        lines.append("upper bounds: pruning, early stopping, the race and equal winners make it shorter")
    elif plan.num_new:
        lines.append("an upper bound: early stopping makes it shorter")
    if any(arm.price is not None and arm.price.source == "a probe" for arm in plan.arms):
        lines.append(
            "a probe times one training alone, on this machine as busy as it is now: jobs slow each other down"
        )
    lines += [f"speed of {arm.name}: {arm.speed}" for arm in plan.arms if arm.speed]
    unknown = [arm.name for arm in plan.arms if arm.seconds is None]
    if unknown:
        lines.append(f"the time leaves out {', '.join(unknown)}: see priced by")
    return lines
