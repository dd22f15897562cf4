"""Labels, the best point, fronts, envelopes, surfaces: against oracles."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from figures_tests.synthetic import CER, FORGETTING, LAMBDA, LAMBDA_AXIS, NORM, NORM_AXIS, make_point
from harness.figures.isolation import envelope
from harness.figures.labels import axis_labels, metric_label
from harness.figures.pareto import better_corner, front, non_dominated
from harness.figures.scores import best_point, focus
from harness.figures.style import new_figure, save, styled
from harness.figures.surface import fit_surface
from harness.records.search import Axis, Objective


@pytest.mark.parametrize(
    ("metric", "direction", "label", "number"),
    [
        ("valid_target/cer", "minimize", "target CER (%) ↓", "25.0 %"),
        ("valid_source/macro_f1", "maximize", "source macro F1 (%) ↑", "25.0 %"),
        ("valid_forgetting", "minimize", "forgetting (points) ↓", "25.0 points"),
        ("valid_target/loss", "minimize", "target loss ↓", "0.25"),
        ("unheard_of", "maximize", "unheard of ↑", "0.25"),
    ],
)
def test_metrics_are_named_with_unit_and_direction(metric: str, direction: str, label: str, number: str) -> None:
    shown = metric_label(Objective.model_validate({"metric": metric, "direction": direction}))
    assert (shown.full, shown.number(0.25)) == (label, number)


def test_axes_that_share_their_last_part_are_told_apart() -> None:
    axes = [Axis(key=key, kind="linear", low=0, high=1) for key in ("a.dim", "b.dim", "b.lr")]
    assert axis_labels(axes) == {"a.dim": "a.dim", "b.dim": "b.dim", "b.lr": "lr"}


def test_the_best_point_is_feasible_where_one_is() -> None:
    good = make_point("a", 0, {}, 0.1, violations=(0.5,))
    fair = make_point("a", 1, {}, 0.3, violations=(0.0,))
    same = make_point("a", 2, {}, 0.3, violations=(-1.0,))
    assert best_point([same, good, fair], "minimize") == fair
    assert best_point([good], "minimize") == good
    assert best_point([], "minimize") is None


def test_focus_leaves_out_only_what_is_far_off_on_the_bad_side() -> None:
    usual = [0.40, 0.41, 0.42, 0.43, 0.44]
    assert focus([*usual, 1.4], "minimize") == (0.40, 0.44)
    assert focus([*usual, -0.9], "minimize") == (-0.9, 0.44)
    assert focus([*usual, -0.9], "maximize") == (0.40, 0.44)
    assert focus([0.5] * 8, "minimize") == (0.5, 0.5)


@pytest.mark.parametrize("directions", list(product(("minimize", "maximize"), repeat=2)))
def test_the_front_is_what_nothing_dominates(directions: tuple[str, str]) -> None:
    stream = random.Random(5)
    values = [(float(stream.randrange(6)), float(stream.randrange(6))) for _ in range(25)]

    def beats(one: float, other: float, direction: str) -> bool:
        return one < other if direction == "minimize" else one > other

    def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
        triples = list(zip(one, other, directions, strict=True))
        return any(beats(a, b, d) for a, b, d in triples) and not any(beats(b, a, d) for a, b, d in triples)

    oracle = [i for i, mine in enumerate(values) if not any(dominates(other, mine) for other in values)]
    assert non_dominated(values, directions) == oracle


def test_an_infeasible_point_is_on_no_front() -> None:
    points = [make_point("a", 0, {}, 0.1, 0.0, violations=(1.0,)), make_point("a", 1, {}, 0.3, 0.1)]
    assert front(points, (CER, FORGETTING)) == [points[1]]
    assert better_corner((CER, FORGETTING)) == "better: lower left ↙"


def test_the_envelope_is_each_bins_best() -> None:
    choices = [make_point("a", n, {NORM: choice}, value) for n, (choice, value) in enumerate(
        [("pre", 0.3), ("post", 0.2), ("pre", 0.1), ("post", 0.4)])]  # fmt: skip
    assert [point.number for point in envelope(NORM_AXIS, choices, "minimize")] == [2, 1]
    assert [point.number for point in envelope(NORM_AXIS, choices, "maximize")] == [0, 3]


def test_zeros_have_a_bin_of_their_own_and_infeasible_points_none() -> None:
    drawn = [0.0, 0.0, 1e-5, 2e-5, 5e-2, 1e-1]
    points = [make_point("a", n, {LAMBDA: value}, 0.5 - n / 100) for n, value in enumerate(drawn)]
    assert [point.number for point in envelope(LAMBDA_AXIS, points, "minimize")] == [1, 3, 5]
    infeasible = make_point("a", 6, {LAMBDA: 1e-1}, 0.1, violations=(1.0,))
    assert [point.number for point in envelope(LAMBDA_AXIS, [*points, infeasible], "minimize")] == [1, 3, 5]


def test_a_surface_follows_a_plane_and_stays_in_range() -> None:
    stream = np.random.default_rng(0)
    x, y = stream.uniform(0, 2, 30), stream.uniform(-5, -1, 30)
    z = 3 * x - y
    surface = fit_surface(list(x), list(y), list(z))
    assert surface is not None
    inside = (surface.z > z.min()) & (surface.z < z.max())
    grid_x, grid_y = np.meshgrid(surface.x, surface.y)
    np.testing.assert_allclose(surface.z[inside], (3 * grid_x - grid_y)[inside], atol=1e-6)
    assert surface.z.min() >= z.min() and surface.z.max() <= z.max()
    assert {tuple(corner) for corner in surface.hull.round(9)} <= {tuple(p) for p in np.column_stack([x, y]).round(9)}


@pytest.mark.parametrize(
    ("x", "y", "z"),
    [
        ([], [], []),
        ([float(n) for n in range(7)], [float(n**2) for n in range(7)], [float(n) for n in range(7)]),
        ([1.0] * 9, [float(n) for n in range(9)], [float(n) for n in range(9)]),
        ([float(n) for n in range(9)], [2.0 * n for n in range(9)], [float(n) for n in range(9)]),
        ([float(n) for n in range(9)], [float(n**2) for n in range(9)], [0.5] * 9),
        ([0.0, 1.0] * 6, [1.0, 0.0] * 6, [float(n) for n in range(12)]),
    ],
    ids=["nothing", "seven", "vertical", "line", "flat", "two places"],
)
def test_no_surface_where_it_would_be_invention(x: list[float], y: list[float], z: list[float]) -> None:
    assert fit_surface(x, y, z) is None


def test_a_name_with_dollars_is_no_formula(tmp_path: Path) -> None:
    @styled
    def draw() -> Figure:
        figure = new_figure(3, 2)
        figure.suptitle("$\\frac{1}{2$")
        return figure

    _, svg = save(draw(), tmp_path, "name")
    assert "$\\frac{1}{2$" in svg.read_text(encoding="utf-8")
