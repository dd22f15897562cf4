"""The search phase where `harness work` processes on other machines train it: wait for its records. Loads no torch."""

from __future__ import annotations

import time
from collections.abc import Sequence

from harness.launch.elsewhere import POLL_S, ElsewhereLauncher
from harness.launch.launcher import Launcher
from harness.search.arm_search import ArmSearch
from harness.search.declaration import Sweep
from harness.sweep.plan import SweepPlan
from harness.sweep.race import Launch
from harness.sweep.searched import read_searched, study_place


def num_at_first(plan: SweepPlan, lag: int = 0) -> int:
    """How many workers a launch has a use for when it begins: the trials that its first phase may have under way.

    Args:
        lag: of a sweep's search.
    """
    searching = sum(lag if arm.search_s else min(lag, arm.search.new) for arm in plan.arms)
    return searching or sum(arm.race.new for arm in plan.arms) or sum(arm.confirm.new for arm in plan.arms)


def wait_for_beginning(sweep: Sweep, run: Launch) -> None:
    """Start workers and wait until one has begun the search: engines are chosen on a machine that trains."""
    folder, arms = run.results / sweep.name, [arm.name for arm in sweep.searched]
    with run.make_launcher(lambda event: None) as launcher:
        while True:
            known = read_searched(folder, arms, study_place(sweep, run.results))
            if known.fingerprint is not None and set(arms) <= known.executions.keys():
                return
            most = min(sweep.config.search.lag, sweep.config.budget.trials or sweep.config.search.lag)
            _look_after(launcher, sweep, run, most * len(arms))
            time.sleep(POLL_S)


def follow_search(sweep: Sweep, run: Launch, arms: Sequence[ArmSearch]) -> None:
    """Look after the workers until every arm's budget is used."""
    told = ""
    with run.make_launcher(lambda event: None) as launcher:
        while not all(arm.finished() for arm in arms):
            left = {arm.arm.name: arm.num_planned - arm.num_points for arm in arms}
            _look_after(launcher, sweep, run, sum(min(sweep.config.search.lag, number) for number in left.values()))
            text = ", ".join(f"{arm.arm.name} {arm.num_points} of {arm.num_planned}" for arm in arms)
            if text != told:
                print(f"search: {text}", flush=True)
                told = text
            time.sleep(POLL_S)
            for arm in arms:
                arm.refresh()


def _look_after(launcher: Launcher, sweep: Sweep, run: Launch, num_left: int) -> None:
    assert isinstance(launcher, ElsewhereLauncher)
    launcher.look_after(run.results / sweep.name, num_left)
