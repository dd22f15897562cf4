"""The launchers by name. A new one is a file beside this one and a line in `LAUNCHERS`.

A launcher's class is named as `FILE:CLASS`, not imported: the choices can be listed without loading any.
"""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from harness.errors import UserError, must_be_in

if TYPE_CHECKING:
    from harness.launch.launcher import Launcher

LAUNCHERS: Mapping[str, str] = {
    "in_process": "in_process:InProcessLauncher",
    "processes": "processes:ProcessLauncher",
}


def launcher_type(name: str | None, num_workers: int) -> type[Launcher]:
    """The class of a launcher; without a name, of the one that fits the number of workers.

    Raises:
        UserError: there is no such launcher, or it cannot have so many workers.
    """
    chosen = name or ("in_process" if num_workers == 1 else "processes")
    must_be_in(chosen, LAUNCHERS, f"--launcher {chosen!r}")
    found: type[Launcher] = resolve_name(f"harness.launch.{LAUNCHERS[chosen]}")
    if found.max_workers is not None and num_workers > found.max_workers:
        raise UserError(f"--jobs {num_workers}: the launcher {chosen} runs at most {found.max_workers}")
    return found
