"""The launchers by name."""

from __future__ import annotations

from collections.abc import Mapping

from harness.errors import UserError, must_be_in
from harness.launch.in_process import InProcessLauncher
from harness.launch.launcher import Launcher
from harness.launch.processes import ProcessLauncher

LAUNCHERS: Mapping[str, type[Launcher]] = {
    "in_process": InProcessLauncher,
    "processes": ProcessLauncher,
}


def choose_launcher(name: str | None, num_workers: int) -> str:
    """The launcher that is asked for; without a name, the one that fits the number of workers.

    Raises:
        UserError: there is no such launcher, or it cannot have so many workers.
    """
    chosen = name or ("in_process" if num_workers == 1 else "processes")
    must_be_in(chosen, LAUNCHERS, f"--launcher {chosen!r}")
    most = LAUNCHERS[chosen].max_workers
    if most is not None and num_workers > most:
        raise UserError(f"--jobs {num_workers}: the launcher {chosen} can have {most} at most")
    return chosen
