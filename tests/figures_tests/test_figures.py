"""Figures from planted results: the pure parts against oracles, the drawings for their bytes and their edge cases."""

from __future__ import annotations

import itertools
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from harness.figures.contour import contour
from harness.figures.expected_validation import expected_best
from harness.figures.importance import importances
from harness.figures.isolation import envelope
from harness.figures.pareto import front
from harness.figures.style import best_of, coordinate
from harness.figures.sweep_figures import draw_sweep
from harness.sweep.points import Axis, SearchResult

from .results_by_hand import AXES, F1, FORGETTING, LAMBDA, P, search_result


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_expected_best_is_the_mean_over_all_subsets(direction: str) -> None:
    values, pick = [0.3, 0.9, 0.5, 0.5, 0.1], max if direction == "maximize" else min
    for num in range(1, 6):
        oracle = fmean(pick(chosen) for chosen in itertools.combinations(values, num))
        assert expected_best(values, num, direction) == pytest.approx(oracle, abs=1e-12)  # type: ignore[arg-type]
    for wrong in (0, 6):
        with pytest.raises(ValueError, match="draws"):
            expected_best(values, wrong, "maximize")


@pytest.mark.parametrize("method", ["ped_anova", "fanova"])
def test_the_setting_that_matters_is_found(method: str) -> None:
    found = importances(search_result(40), "both", method)  # type: ignore[arg-type]
    assert found is not None
    assert found[LAMBDA] > 0.7 > 0.3 > found[P]
    assert sum(found.values()) == pytest.approx(1.0)


def test_importance_needs_trials_that_differ() -> None:
    assert importances(search_result(5), "both") is None
    assert importances(search_result(30, values=(0.5,), state="complete"), "both") is None


def test_envelope_takes_the_best_of_each_bin() -> None:
    x, values = np.array([0.0, 0.1, 0.5, 0.55, 1.0]), np.array([1.0, 3.0, 2.0, 5.0, 0.0])
    assert sorted(envelope(x, values, True, 2)) == [1, 3]
    assert sorted(envelope(x, values, False, 2)) == [0, 4]
    assert envelope(np.array([]), np.array([]), True) == []


def test_front_against_brute_force() -> None:
    result = search_result(40, objectives=(F1, FORGETTING))
    points = [point for point in result.points if point.state == "complete"]
    expected = {
        p.number
        for p in points
        if not any((q.values[0] >= p.values[0] and q.values[1] <= p.values[1]) and q.values != p.values for q in points)
    }
    assert {point.number for point in front(points, result.objectives)} == expected
    assert 1 < len(expected) < len(points)


def test_best_keeps_the_constraints_where_it_can() -> None:
    points = [point for point in search_result(30).points if point.state == "complete"]
    best = best_of(points, F1)
    assert best.feasible
    assert best.values[0] == max(point.values[0] for point in points if point.feasible)
    hopeless = [point.model_copy(update={"violations": (1.0,)}) for point in points]
    assert best_of(hopeless, F1).values[0] == max(point.values[0] for point in points)


def test_coordinates() -> None:
    assert coordinate(AXES[0], 0.3) == 0.3
    assert coordinate(AXES[1], 1e-4) == pytest.approx(-4)
    assert coordinate(AXES[1], 0.0) == pytest.approx(-7)  # a decade below the lowest value
    assert coordinate(Axis(key="a", kind="categorical", choices=("x", "y")), "y") == 1


def test_same_result_same_bytes(tmp_path: Path) -> None:
    result = search_result()
    first, second = draw_sweep(result, tmp_path / "a"), draw_sweep(result, tmp_path / "b")
    names = {"importance", "isolation", "expected_validation", "contour_both_stochastic_depth_l2_lambda"}
    assert {path.stem for path in first} == names
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    svg = next(path for path in first if path.name == "importance.svg").read_text(encoding="utf-8")
    assert "l2_lambda" in svg and "<text" in svg  # text stays text


def test_two_objectives_add_the_front(tmp_path: Path) -> None:
    assert "pareto" in {path.stem for path in draw_sweep(search_result(objectives=(F1, FORGETTING)), tmp_path)}


@pytest.mark.parametrize(
    "result",
    [
        search_result(1),
        search_result(12, state="failed", values=(), reason="nan"),
        search_result(12, values=(0.5,), state="complete"),
        search_result(12, params={P: 0.1, LAMBDA: 0.0}),
        search_result(0),
    ],
    ids=["one", "failed", "equal", "same-place", "none"],
)
def test_poor_results_draw_without_a_warning(result: SearchResult, tmp_path: Path) -> None:
    draw_sweep(result, tmp_path)
    contour(result, "both", P, LAMBDA)


def test_arms_without_settings_or_with_categories(tmp_path: Path) -> None:
    categories = Axis(key="adapter.activation", kind="categorical", choices=("relu", "swish"))
    result = search_result(20)
    points = tuple(
        p.model_copy(update={"params": {**p.params, categories.key: ("relu", "swish")[p.number % 2]}})
        for p in result.points
    )
    changed = result.model_copy(update={"axes": {"frozen": (), "both": (*AXES, categories)}, "points": points})
    assert {path.stem for path in draw_sweep(changed, tmp_path)} >= {"isolation", "importance"}
