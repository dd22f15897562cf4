"""The plan of a sweep or an experiment as a grid, its totals in words, and the question before a long one."""

from __future__ import annotations

import sys

from rich.console import Console

from harness.cli.printing import make_grid, open_console
from harness.engines.prices import duration
from harness.errors import UserError
from harness.launch.launchers import LauncherChoice
from harness.sweep.parts import Count
from harness.sweep.plan import ArmPlan, SweepPlan
from harness.tables.render.terminal import escape

ASK_S = 3600  # a longer sweep is not started without asking
COSTS = ("one training", "in all", "memory (MB)", "weights that learn")


def print_plan(plan: SweepPlan, console: Console | None = None, quiet: bool = False) -> None:
    """Print; in a pipe the table is as wide as it needs to be. Quietly, what the data hold is left out."""
    console = open_console(console)
    is_sweep = any(arm.searches for arm in plan.arms)
    counts = ("searches", "search (trials)", "race (trainings)", "confirm (trainings)") if is_sweep else ("trainings",)
    rows = []
    for arm in plan.arms:
        before = [arm.searches or "nothing", *map(count_text, (arm.search, arm.race))] if is_sweep else []
        rows.append([arm.name, *before, count_text(arm.confirm), *_costs(arm)])
    console.print(make_grid(("arm", *counts, *COSTS, "priced by"), rows, f"Plan of {plan.name}", right=COSTS))
    noticed = [
        *(f"search: {remark}" for remark in plan.search_remarks),
        *(f"data: {remark}" for remark in plan.data.lines(quiet)),
    ]
    for line in (*total_lines(plan), *noticed):
        console.print(f"  {escape(line)}", highlight=False)


def print_preview(launcher: LauncherChoice, work: tuple[str, ...], num_left: int) -> None:
    """Print what a launcher would start elsewhere, if it would.

    Args:
        num_left: the trials that it would have for workers when it begins; no more of them are started.
    """
    if not num_left:
        return
    text = launcher.kind.preview(launcher.options, min(launcher.num_workers, num_left), work)
    if text is not None:
        print(f"launcher {launcher.name} would start:\n{text.rstrip()}")


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
        return ["everything is finished; nothing is left to train"]
    jobs = "1 job" if plan.num_jobs == 1 else f"{plan.num_jobs} jobs"
    memory = f"{plan.peak_memory_mb:.0f} MB of memory"
    if plan.num_jobs > 1:
        memory = f"{plan.num_jobs} x {memory}"
    lines = [
        f"at most {plan.num_new} trainings, about {duration(plan.wall_s)} with {jobs}, {memory}, "
        f"{plan.disk_mb:.1f} MB of disk"
    ]
    if any(arm.search.new or arm.race.new for arm in plan.arms):
        lines.append(
            "these are upper bounds: pruning, early stopping, candidates that drop out of the race, and rules that "
            "choose the same winner save trainings"
        )
    elif plan.num_new:
        lines.append("this is an upper bound: early stopping makes it shorter")
    if any(arm.price is not None and arm.price.is_probed for arm in plan.arms):
        lines.append(
            "a probe is one training by the plain engine, timed alone on this machine, as busy as it is now; several "
            "jobs slow each other down"
        )
    speeds: dict[str, list[str]] = {}
    for arm in plan.arms:
        if arm.speed:
            speeds.setdefault(arm.speed, []).append(arm.name)
    for speed, names in speeds.items():
        is_all = 3 < len(names) == len(plan.arms)  # a factorial's 36 names stand in the table already
        lines.append(f"speed of {f'all {len(names)} arms' if is_all else ', '.join(names)}: {speed}")
    unknown = [arm.name for arm in plan.arms if arm.seconds is None]
    if unknown:
        lines.append(f"the time does not include {', '.join(unknown)}; the column `priced by` says why")
    return lines


def ask_before(plan: SweepPlan, yes: bool) -> None:
    """Ask before a long sweep.

    Raises:
        UserError: the answer was no, or nobody is there to ask.
    """
    if yes or plan.wall_s <= ASK_S:
        return
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise UserError(f"{plan.path}: this takes about {duration(plan.wall_s)}; give --yes to start it without asking")
    try:
        answer = input(f"This takes about {duration(plan.wall_s)}. Start? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise UserError(f"{plan.path}: not started")
