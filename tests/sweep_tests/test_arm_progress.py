"""What an arm's search knows of its trials without going through all of them, against the plain definitions."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.records.points import EndedTrial, Points
from harness.records.search import PointState
from harness.search.arm_search import ArmSearch
from harness.search.sweep_files import load_sweep

SWEEP = Path(__file__).parents[2] / "sweeps" / "text_depth_x_l2.yaml"


def make_arm(budget: str, results: Path) -> ArmSearch:
    sweep = load_sweep(SWEEP, [f"budget={budget}"])
    return ArmSearch(sweep, sweep.searched[0], results)


def planned(ended: Mapping[int, float], seconds: float, lag: int) -> int:
    """The definition: `lag` after the first trial that has not ended, or that used up the budget."""
    spent, number = 0.0, 0
    while number in ended:
        spent += ended[number]
        if spent >= seconds:
            break
        number += 1
    return number + lag


@pytest.mark.parametrize("budget", ["{trials: 12}", "{seconds: 20}"])
def test_what_is_known_of_the_trials(budget: str, tmp_path: Path) -> None:
    generator = random.Random(0)
    for repeat in range(30):
        arm = make_arm(budget, tmp_path / str(repeat))
        lag, ended = arm.sweep.config.search.lag, dict[int, float]()
        for _ in range(14):
            limit = 12 if "trials" in budget else planned(ended, 20, lag)
            assert arm.num_planned == limit
            assert arm.finished() == all(number in ended for number in range(limit))
            may_draw = [all(n in ended for n in range(max(0, number - lag + 1))) for number in range(limit)]
            assert [arm.may_draw(number) for number in range(limit)] == may_draw
            is_open = [number for number in range(limit) if may_draw[number] and number not in ended]
            assert arm._open_numbers() == is_open
            if is_open:
                number = generator.choice(is_open)
                state: PointState = generator.choice(["complete", "failed", "pruned"])
                ended[number] = generator.uniform(0.0, 6.0)
                point = EndedTrial(arm=arm.arm.name, number=number, state=state, params={}, seconds=ended[number])
                arm._end(Points(tmp_path / str(repeat) / arm.sweep.name, arm.arm.name).write(point))
        again = make_arm(budget, tmp_path / str(repeat))  # by the points alone
        assert (again.ended, again.num_planned, again._open_numbers()) == (
            arm.ended,
            arm.num_planned,
            arm._open_numbers(),
        )
