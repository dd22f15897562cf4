"""Contenders, the race and the rules, on examples worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from harness.config.sweep import ConstraintSettings
from harness.records.search import Axis, Objective, SearchPoint
from harness.sweep.selection import Contender, choose_contenders, describe_winner, drop_losers, judged_by, select

F1 = Objective(metric="valid_target/macro_f1", direction="maximize")
CER = Objective(metric="valid_target/macro_f1", direction="minimize")  # the same numbers, read the other way
KEPT = [ConstraintSettings(metric="valid_forgetting", at_most=0.03)]
LAMBDA = Axis(key="l2_lambda", kind="zero_or_log", low=1e-6, high=1e-2)


def point(number: int, value: float, violation: float = -1.0, **changes: Any) -> SearchPoint:
    settings: dict[str, Any] = {
        "arm": "a",
        "number": number,
        "state": "complete",
        "params": {"l2_lambda": 0.0},
        "values": (value,),
        "violations": (violation,),
        "trial_ids": (f"t{number}",),
    }
    return SearchPoint(**settings | changes)


def contender(number: int, *scores: float, forgetting: float = 0.0, l2_lambda: float = 0.0) -> Contender:
    runs = {seed: {F1.metric: score, "valid_forgetting": forgetting} for seed, score in enumerate(scores)}
    return Contender(number, {"l2_lambda": l2_lambda}, runs)


def numbers(found: list[Any]) -> list[int]:
    return [item.number for item in found]


def test_contenders_are_the_best_complete_points() -> None:
    points = [point(0, 0.5), point(1, 0.9), point(2, 0.7), point(3, 0.95, state="pruned", values=()), point(4, 0.8)]
    assert numbers(choose_contenders(points, F1, ["best"], 2)) == [1, 4]
    assert numbers(choose_contenders(points, CER, ["best"], 2)) == [0, 2]
    assert numbers(choose_contenders(points, F1, ["best"], 9)) == [0, 1, 2, 4]


def test_the_same_trainings_count_once() -> None:
    points = [point(0, 0.9), point(1, 0.9, trial_ids=("t0",)), point(2, 0.7)]
    assert numbers(choose_contenders(points, F1, ["best"], 2)) == [0, 2]


def test_constrained_brings_its_own_contenders() -> None:
    points = [point(0, 0.9, 0.1), point(1, 0.8, 0.1), point(2, 0.6), point(3, 0.5)]
    assert numbers(choose_contenders(points, F1, ["best", "constrained"], 1)) == [0, 2]
    hopeless = [point(0, 0.9, 0.3), point(1, 0.8, 0.1)]
    assert numbers(choose_contenders(hopeless, F1, ["constrained"], 1)) == [0, 1]  # the one that misses least as well


def test_nobody_drops_out_on_one_seed_and_hardly_on_two() -> None:
    assert numbers(drop_losers([contender(0, 0.9), contender(1, 0.1)], F1)) == [0, 1]
    # Differences .2 and .1: t = .15 / (.0707 / 1.414) = 3, below 6.31, the 95 % point with one degree of freedom.
    assert numbers(drop_losers([contender(0, 0.9, 0.8), contender(1, 0.7, 0.7)], F1)) == [0, 1]


def test_a_clear_loser_drops_out_in_either_direction() -> None:
    # Differences .20, .19, .21: t = .2 / (.01 / 1.732) = 34.6, above 2.92.
    pair = [contender(0, 0.90, 0.80, 0.85), contender(1, 0.70, 0.61, 0.64)]
    assert numbers(drop_losers(pair, F1)) == [0]
    assert numbers(drop_losers(pair, CER)) == [1]


def test_one_that_keeps_the_constraints_is_not_dropped_for_one_that_does_not() -> None:
    pair = [contender(0, 0.90, 0.80, 0.85, forgetting=0.1), contender(1, 0.70, 0.61, 0.64, forgetting=0.01)]
    assert numbers(drop_losers(pair, F1, KEPT)) == [0, 1]
    assert numbers(drop_losers(pair, F1)) == [0]


def test_best_and_its_standard_error() -> None:
    winner = select("best", [contender(0, 0.5, 0.7), contender(1, 0.8, 0.6)], F1, [], [])
    assert winner.contender.number == 1
    assert winner.mean == pytest.approx(0.7)
    assert winner.standard_error == pytest.approx(0.1)  # sd .1414 over the root of 2
    assert select("best", [contender(0, 0.5), contender(1, 0.5)], F1, [], []).contender.number == 0  # the earlier
    assert select("best", [contender(0, 0.5)], F1, [], []).standard_error is None


def test_constrained_takes_the_best_that_keeps_them() -> None:
    field = [contender(0, 0.9, forgetting=0.05), contender(1, 0.6, forgetting=0.03), contender(2, 0.5, forgetting=0.0)]
    winner = select("constrained", field, F1, KEPT, [])
    assert (winner.contender.number, winner.feasible) == (1, True)
    hopeless = [contender(0, 0.9, forgetting=0.05), contender(1, 0.6, forgetting=0.04)]
    winner = select("constrained", hopeless, F1, KEPT, [])
    assert (winner.contender.number, winner.feasible) == (1, False)


def test_one_se_takes_the_strongest_within_one_standard_error() -> None:
    best = contender(0, 0.80, 0.60, l2_lambda=0.0)  # mean .70, standard error .10
    inside = contender(1, 0.61, 0.61, l2_lambda=1e-4)
    weaker = contender(2, 0.65, 0.65, l2_lambda=1e-6)
    outside = contender(3, 0.59, 0.59, l2_lambda=1e-2)
    field = [best, inside, weaker, outside]
    assert select("one_se", field, F1, [], [LAMBDA]).contender.number == 1
    assert select("one_se", [best, weaker, outside], F1, [], [LAMBDA]).contender.number == 2  # any lambda beats none
    assert select("one_se", [best, outside], F1, [], [LAMBDA]).contender.number == 0
    flipped = [
        Contender(c.number, c.params, {seed: {F1.metric: 1 - run[F1.metric]} for seed, run in c.judged.items()})
        for c in field
    ]
    assert select("one_se", flipped, CER, [], [LAMBDA]).contender.number == 1


def test_ties_go_to_the_earlier_trial() -> None:
    points = [point(2, 0.7), point(1, 0.7), point(0, 0.7)]
    assert numbers(choose_contenders(points, F1, ["best"], 1)) == [0]
    pair = [contender(1, 0.5, 0.5, l2_lambda=1e-4), contender(0, 0.5, 0.5, l2_lambda=1e-4)]
    assert [select(rule, pair, F1, KEPT, [LAMBDA]).contender.number for rule in ("best", "constrained", "one_se")] == [
        0
    ] * 3
    equal = [contender(0, 0.5, 0.5), contender(1, 0.5, 0.5)]
    assert numbers(drop_losers(equal, F1)) == [0, 1]  # no difference is no defeat


def test_the_least_violation_is_summed_over_the_constraints_and_the_earlier_wins() -> None:
    both = [*KEPT, ConstraintSettings(metric=F1.metric, at_least=0.5)]
    # Missed by: .02 + 0 = .02; 0 + .1 = .1; .01 + .01 = .02.
    field = [contender(0, 0.6, forgetting=0.05), contender(1, 0.4), contender(2, 0.49, forgetting=0.04)]
    winner = select("constrained", field, F1, both, [])
    assert (winner.contender.number, winner.feasible) == (0, False)


def raced(number: int, searched: float, *scores: float, forgetting: Sequence[float] = ()) -> Contender:
    """A contender with one run in the search and some in the race."""
    of_race = zip(scores, forgetting or [0.0] * len(scores), strict=True)
    runs = {1001 + n: {F1.metric: score, "valid_forgetting": value} for n, (score, value) in enumerate(of_race)}
    return Contender(number, {"l2_lambda": 0.0}, {1000: {F1.metric: searched, "valid_forgetting": -1.0}}, runs)


def test_the_seed_of_the_search_does_not_judge() -> None:
    """Each contender was lucky on it. With it the means would be .70 and .65, and the standard error half as large."""
    lucky, steady = raced(0, 1.0, 0.5, 0.6), raced(1, 0.65, 0.6, 0.7)
    winner = select("best", [lucky, steady], F1, [], [])
    assert winner.contender.number == 1
    assert winner.mean == pytest.approx(0.65)
    assert winner.standard_error == pytest.approx(0.05)  # sd .0707 over the root of 2
    told = describe_winner(winner)
    assert told["seeds"] == 2 and told["validation"][F1.metric] == pytest.approx(0.65)
    # In the race it does not count as a second seed either: with it, 3 differences of .2 would drop the other.
    assert numbers(drop_losers([raced(0, 0.9, 0.9), raced(1, 0.7, 0.7)], F1)) == [0, 1]
    # Its forgetting of -1 does not keep a constraint that the race's seeds miss.
    assert not select("constrained", [raced(0, 0.5, 0.5, 0.5, forgetting=[0.04, 0.04])], F1, KEPT, []).feasible


def test_a_constraint_is_judged_by_the_upper_bound_of_the_mean() -> None:
    # Mean .02, sd .00816, standard error .00408; t(3, 95 %) = 2.353: bound .0296, below .03.
    sure = raced(0, 0.5, 0.5, 0.5, 0.5, 0.5, forgetting=[0.01, 0.02, 0.03, 0.02])
    # Mean .015, sd .0173, standard error .00866: bound .0354.
    unsure = raced(1, 0.9, 0.9, 0.9, 0.9, 0.9, forgetting=[0.0, 0.0, 0.03, 0.03])
    assert sure.excess(KEPT, surely=True) == unsure.excess(KEPT, surely=False) == 0
    assert unsure.excess(KEPT, surely=True) == pytest.approx(0.015 + 2.3534 * 0.0173205 / 2 - 0.03, abs=1e-6)
    winner = select("constrained", [sure, unsure], F1, KEPT, [])
    assert (winner.contender.number, winner.feasible) == (0, True)
    assert select("constrained", [sure, unsure], F1, KEPT, [], surely=False).contender.number == 1  # as old sweeps did
    low = [ConstraintSettings(metric="valid_forgetting", at_least=0.011)]
    assert sure.excess(low, surely=True) == pytest.approx(0.011 - (0.02 - 2.3534 * 0.0081650 / 2), abs=1e-6)
    one = raced(2, 0.5, 0.5, forgetting=[0.03])
    assert one.excess(KEPT, surely=True) == 0  # one seed has no spread, so its value is all there is


def test_the_race_drops_nobody_for_one_that_only_seems_to_keep_the_constraints() -> None:
    sure = raced(0, 0.5, 0.50, 0.61, 0.55, 0.54, forgetting=[0.02, 0.02, 0.02, 0.02])
    better = raced(1, 0.9, 0.90, 1.00, 0.95, 0.94, forgetting=[0.0, 0.0, 0.03, 0.03])
    assert numbers(drop_losers([sure, better], F1, KEPT)) == [0, 1]
    assert numbers(drop_losers([sure, better], F1, KEPT, surely=False)) == [1]


def test_frozen_json_says_how_contenders_were_judged() -> None:
    assert judged_by([1000], [1001, 1002]) == {
        "seeds": [1001, 1002],
        "means": "the race's seeds; the search's are left out",
        "constraints": "the one-sided 95 % bound of the mean (Student's t over 2 seeds)",
    }
    alone = judged_by([1000], [])
    assert alone["seeds"] == [1000] and alone["constraints"] == "the value of the one seed: a bound needs two"


def test_constrained_minimises_where_lower_is_better() -> None:
    field = [contender(0, 0.3, 0.3, forgetting=0.025), contender(1, 0.4, 0.4), contender(2, 0.1, 0.1, forgetting=0.04)]
    winner = select("constrained", field, CER, KEPT, [])
    assert (winner.contender.number, winner.feasible) == (0, True)
    assert winner.mean == pytest.approx(0.3)


def test_one_se_takes_the_mean_strength_of_several_settings() -> None:
    depth = Axis(key="p", kind="linear", low=0.0, high=0.9)

    def both(number: int, l2_lambda: float, p: float) -> Contender:
        found = contender(number, 0.6, 0.8)
        return Contender(number, {"l2_lambda": l2_lambda, "p": p}, found.judged)

    # Strengths: (1 + 0) / 2 = .5; (.55 + .5) / 2 = .525; (0 + .9 / .9) / 2 = .5.
    field = [both(0, 1e-2, 0.0), both(1, 1e-4, 0.45), both(2, 0.0, 0.9)]
    assert select("one_se", field, F1, [], [LAMBDA, depth]).contender.number == 1


def test_one_that_just_reaches_one_standard_error_is_inside() -> None:
    best = contender(0, 1.0, 0.5)  # mean .75, standard error .25: exact in binary
    assert select("one_se", [best, contender(1, 0.5, 0.5, l2_lambda=1e-2)], F1, [], [LAMBDA]).contender.number == 1
    lowest = contender(0, 0.0, 0.5)  # lower is better: mean .25, standard error .25
    assert select("one_se", [lowest, contender(1, 0.5, 0.5, l2_lambda=1e-2)], CER, [], [LAMBDA]).contender.number == 1


def test_pruned_and_failed_points_do_not_race_and_too_few_are_all_there_are() -> None:
    states = {"pruned": 0.9, "failed": 0.8, "running": 0.7, "complete": 0.1}
    points = [point(n, value, state=state) for n, (state, value) in enumerate(states.items())]
    assert numbers(choose_contenders(points, F1, ["best", "constrained"], 3)) == [3]
    assert choose_contenders(points[:3], F1, ["best"], 3) == []
