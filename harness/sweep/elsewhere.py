"""The search phase where `harness work` processes on other machines train it: wait for its records. Loads no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from harness.disk import write_json
from harness.launch.elsewhere import POLL_S, ElsewhereLauncher
from harness.search.declaration import Sweep
from harness.sweep.race import Launch
from harness.sweep.status import SWEEP_FILE, SweepStatus, read_status


def follow_search(sweep: Sweep, run: Launch, describe: Mapping[str, Any]) -> None:
    """Look after the workers until every arm's budget is used.

    Args:
        describe: the content of sweep.json, where the first worker has not written it yet.
    """
    folder = run.results / sweep.name
    if not (folder / SWEEP_FILE).exists():
        write_json(folder / SWEEP_FILE, describe)
    with run.make_launcher(run.hear) as launcher:
        assert isinstance(launcher, ElsewhereLauncher)
        told = ""
        while True:
            status = read_status(sweep.name, run.results)
            if all(arm.finished for arm in status.arms):
                return
            launcher.look_after(folder, _num_left(sweep, status))
            if (text := _text(status)) != told:
                print(text, flush=True)
                told = text
            time.sleep(max(POLL_S, 0.001 * sum(len(arm.points) for arm in status.arms)))


def _num_left(sweep: Sweep, status: SweepStatus) -> int:
    """How many trials can be under way: those that are left, and no more than `lag` of an arm."""
    lag = sweep.config.search.lag
    return sum(
        lag if arm.planned is None else min(lag, arm.planned - arm.num_finished)
        for arm in status.arms
        if not arm.finished
    )


def _text(status: SweepStatus) -> str:
    """How far the search is: `search: residual_add 3 of 8, head_only 8 of 8`."""
    each = (
        f"{arm.name} {arm.num_finished}{'' if arm.planned is None else f' of {arm.planned}'}" for arm in status.arms
    )
    return f"search: {', '.join(each)}"
