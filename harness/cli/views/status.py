"""How sweeps and experiments are going: a grid, once, or refreshed until they are finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from harness.cli.printing import make_grid, open_console
from harness.cli.progress import score_text
from harness.engines.prices import duration
from harness.errors import TrialError, UserError, first_line
from harness.records.search import Objective, SearchPoint
from harness.sweep.experiment_status import ExperimentStatus, is_sweep, list_results, read_experiment_status
from harness.sweep.status import OVER, ArmStatus, SweepStatus, read_status
from harness.sweep.workers import Held

REFRESH_S = 2.0
MOST_SHOWN = 20  # trials that are under way


def show_status(name: str | None, results: Path, watch: bool, console: Console | None = None) -> None:
    """Print the status of a sweep or an experiment, or a line for each; `watch` refreshes it until all is over.

    Where the output is no terminal, watching prints a line for each change, and the grid at the end.

    Raises:
        UserError: nothing has been run under this name, or a file or a storage cannot be read.
        TrialError: of some of those in the list, a file or a storage cannot be read; the others were shown.
    """
    console = open_console(console)
    unreadable: dict[str, str] = {}

    def look() -> Look:
        if name is not None:
            status = _status_of(name, results)
            shown = render_experiment(status) if isinstance(status, ExperimentStatus) else render_status(status)
            return Look(shown, (_line(status),), status.phase in OVER)
        statuses: list[SweepStatus | ExperimentStatus | Unreadable] = []
        unreadable.clear()
        for each in list_results(results):
            try:
                statuses.append(_status_of(each, results))
            except (UserError, TrialError) as error:
                statuses.append(Unreadable(each))
                unreadable[each] = first_line(error)
        return Look(render_list(statuses), tuple(map(_line, statuses)), all(s.phase in OVER for s in statuses))

    if watch and console.is_terminal:
        _watch(console, look)
    else:
        console.print((_follow(look) if watch else look()).shown, highlight=False)
    if unreadable:
        first, *others = unreadable.values()
        raise TrialError("error", f"{first}{f' (and {len(others)} more cannot be read)' if others else ''}")


@dataclass(frozen=True)
class Look:
    """What was seen at one time: to be shown, in plain lines, and whether all of it is over."""

    shown: RenderableType
    lines: tuple[str, ...]
    is_over: bool


def _watch(console: Console, look: Callable[[], Look]) -> None:
    seen = look()  # before the screen is taken, so that an error stays one line
    with suppress(KeyboardInterrupt), Live(seen.shown, console=console, auto_refresh=False) as live:
        while not seen.is_over:
            time.sleep(REFRESH_S)
            seen = look()
            live.update(seen.shown, refresh=True)


def _follow(look: Callable[[], Look]) -> Look:
    """Print a line for each change until all is over; returns what was seen last."""
    told: tuple[str, ...] = ()
    seen = look()
    with suppress(KeyboardInterrupt):
        while not seen.is_over:
            for line in seen.lines:
                if line not in told:
                    print(line, flush=True)
            told = seen.lines
            time.sleep(REFRESH_S)
            seen = look()
    return seen


def _line(status: SweepStatus | ExperimentStatus | Unreadable) -> str:
    """One line that is another one when something has ended: without times."""
    name, _, phase, trials, *_ = _row(status)
    if isinstance(status, Unreadable):
        return f"{name}: {phase}"
    if isinstance(status, ExperimentStatus):
        return f"{name}: {phase}, {trials} trainings have ended"
    done, planned = status.confirm
    confirmed = "" if planned is None else f", {done} of {planned} trainings of the confirm phase"
    raced = f", {status.race[0]} trainings of the race" if status.race[0] else ""
    return f"{name}: {phase}, {trials} trials of the search have ended{raced}{confirmed}"


def _status_of(name: str, results: Path) -> SweepStatus | ExperimentStatus:
    return read_status(name, results) if is_sweep(name, results) else read_experiment_status(name, results)


@dataclass(frozen=True)
class Unreadable:
    """A sweep or an experiment of which a file cannot be read; nothing is waited for."""

    name: str
    phase: Literal["failed"] = "failed"


def render_list(statuses: Sequence[SweepStatus | ExperimentStatus | Unreadable]) -> RenderableType:
    """A row for each sweep and experiment; a sweep's trials are those of its search."""
    rows = [_row(status) for status in statuses]
    return make_grid(("name", "kind", "phase", "trials", "running", "time left", "best so far"), rows)


def _row(status: SweepStatus | ExperimentStatus | Unreadable) -> tuple[str, ...]:
    if isinstance(status, Unreadable):
        return status.name, "-", "cannot be read", "-", "-", "-", "-"
    return _experiment_row(status) if isinstance(status, ExperimentStatus) else _sweep_row(status)


def _sweep_row(status: SweepStatus) -> tuple[str, ...]:
    finished = sum(arm.num_finished for arm in status.arms)
    planned = [arm.planned for arm in status.arms]
    total = f"{finished}" if None in planned else f"{finished} of {sum(number or 0 for number in planned)}"
    bests = [(arm, arm.best) for arm in status.arms if arm.best is not None]
    best = "-"
    if bests and status.objectives:
        sign = 1 if status.objectives[0].direction == "maximize" else -1
        arm, point = max(bests, key=lambda pair: sign * pair[1].values[0])
        best = f"{arm.name}: {scores_text(point, status.objectives)}"
    left = "-" if status.left_s is None else duration(status.left_s)
    return status.name, "sweep", phase_text(status), total, str(status.num_workers), left, best


def _experiment_row(status: ExperimentStatus) -> tuple[str, ...]:
    ended, planned = sum(arm.ended for arm in status.arms), sum(arm.planned for arm in status.arms)
    return status.name, "experiment", status.phase, f"{ended} of {planned}", "-", "-", "-"


def render_experiment(status: ExperimentStatus) -> RenderableType:
    """A row for each arm of an experiment."""
    rows = []
    for arm in status.arms:
        reasons = ", ".join(f"{count} {reason}" for reason, count in arm.failed.items())
        rows.append((arm.name, f"{arm.ended} of {arm.planned}", reasons or "0", str(arm.begun)))
    headers = ("arm", "trainings that have ended", "failed", "begun, and not ended")
    grid = make_grid(headers, rows, f"{status.name}: {status.phase}")
    return Group(grid, *(Text(f"  {line}") for line in worker_lines(status.held)))


def render_status(status: SweepStatus) -> RenderableType:
    """A row for each arm, and the phases below."""
    headers = ("arm", "trials", "running", "pruned", "failed", "best so far", "its settings", "time left")
    rows = []
    for arm in status.arms:
        best = "-" if arm.best is None else f"trial {arm.best.number}: {scores_text(arm.best, status.objectives)}"
        settings = "-" if arm.best is None else settings_text(arm.best)
        left = "-" if arm.left_s is None else duration(arm.left_s / max(1, status.num_workers))
        rows.append(
            (arm.name, _trials(arm), _running(arm), str(arm.count("pruned")), _failed(arm), best, settings, left)
        )
    grid = make_grid(headers, rows, f"{status.name}: {phase_text(status)}")
    return Group(
        grid, *(Text(f"  {line}") for line in (*phase_lines(status), *worker_lines(status.held), *status.waits))
    )


def worker_lines(held: Sequence[Held]) -> list[str]:
    """Who trains what, a line for each trial; of many, the first and how many more."""
    if not held:
        return []
    hosts = {one.host for one in held if not one.is_gone}
    alive = sum(not one.is_gone for one in held)
    lines = [f"under way: {alive} trials on {', '.join(sorted(hosts))}"] if alive else []
    lines += [f"  {one.text}" for one in held[:MOST_SHOWN]]
    return [*lines, *([f"  and {len(held) - MOST_SHOWN} more"] if len(held) > MOST_SHOWN else [])]


def phase_text(status: SweepStatus) -> str:
    """The phase, with a remark if a search has no worker."""
    stopped = status.phase == "search" and status.num_workers == 0
    return f"{status.phase} (no worker is seen)" if stopped else status.phase


def phase_lines(status: SweepStatus) -> list[str]:
    """Search, race and confirm with their counts."""
    workers = f"{status.num_workers} workers" if status.num_workers > 1 else "one worker"
    finished = sum(arm.num_finished for arm in status.arms)
    left = "" if status.left_s is None else f"; with {workers}, about {duration(status.left_s)} left"
    lines = [f"search: {finished} trials have ended{left}"]
    if status.race[1]:
        most = "" if status.phase in ("confirm", "finished") else f" of at most {status.race[1]}"
        lines.append(f"race: {status.race[0]}{most} trainings finished")
    done, planned = status.confirm
    if planned is not None:
        lines.append(f"confirm: {done} of {planned} trainings finished")
    if status.peaks:
        largest = max(status.peaks, key=lambda peak: peak.peak_mb)
        launches = f"; the highest of {len(status.peaks)} launches" if len(status.peaks) > 1 else ""
        lines.append(f"peak memory: {largest.text}{launches}")
    lines += [f"no winner can be chosen: {text}" for text in status.lost]
    dead = [f"{arm.name}/trial{r.number}" for arm in status.arms for r in arm.running if not r.alive]
    if dead:
        # A launch that only follows holds the sweep as well: it starts workers again, and they take what was left.
        next_ = "the launch under way goes on" if status.is_under_way else "run the sweep again to go on"
        lines.append(f"their process has ended; {next_} with them: {', '.join(dead)}")
    return lines


def scores_text(point: SearchPoint, objectives: tuple[Objective, ...]) -> str:
    """The objectives, and the forgetting."""
    scores = dict(zip([objective.metric for objective in objectives], point.values, strict=False))
    if "valid_forgetting" in point.valid:
        scores.setdefault("valid_forgetting", point.valid["valid_forgetting"])
    return ", ".join(score_text(name, value) for name, value in scores.items())


def settings_text(point: SearchPoint) -> str:
    """Searched settings, short."""
    return ", ".join(f"{key.rsplit('.', 1)[-1]} {value}" for key, value in point.params.items())


def _trials(arm: ArmStatus) -> str:
    return f"{arm.num_finished}" if arm.planned is None else f"{arm.num_finished} of {arm.planned}"


def _running(arm: ArmStatus) -> str:
    alive = [f"{running.number} (epoch {running.step})" for running in arm.running if running.alive]
    return ", ".join(alive) or "-"


def _failed(arm: ArmStatus) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in arm.reasons.items())
    return reasons or "0"
