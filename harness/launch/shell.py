"""The launcher that leaves it to you to start workers, on any machine that has the results folder."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from harness.launch.elsewhere import ElsewhereLauncher, ElsewhereOptions, tell_workers, worker_command


class ShellOptions(ElsewhereOptions):
    """Prints the command of a worker."""


class ShellLauncher(ElsewhereLauncher):
    """Prints the command of a worker, for any machine that has this folder, and follows what the workers train.

    Start as many as you like, when you like, and stop them as you like.
    """

    options_type = ShellOptions

    def look_after_workers(self, folder: Path, num_left: int) -> None:
        command = self.preview(self.options, self.num_workers, self.marked_work(folder))
        tell_workers(f"start workers on any machine that has this folder: {command}")

    @classmethod
    def preview(cls, options: Any, num_workers: int, work: tuple[str, ...]) -> str:
        return f"cd {shlex.quote(os.getcwd())} && {worker_command(options, work)}"
