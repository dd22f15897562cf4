"""Whole figures: the planted truth, the same bytes, and sweeps with little or nothing in them."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
from matplotlib.lines import Line2D

from figures_tests.synthetic import (
    CER,
    DEPTH,
    DEPTH_AXIS,
    F1,
    FORGETTING,
    LAMBDA,
    LAMBDA_AXIS,
    LR_AXIS,
    NORM_AXIS,
    draw_value,
    make_point,
    make_result,
)
from figures_tests.test_importance import only_lambda_matters
from harness.errors import UserError
from harness.figures.contour import colours, contour
from harness.figures.importance import draw_importance
from harness.figures.pareto import draw_pareto
from harness.figures.scales import make_scale
from harness.figures.style import arm_looks, save
from harness.figures.sweep_figures import axis_pairs, draw_sweep, sweep_figures
from harness.records.search import Axis, Objective, SearchPoint, SearchResult

pytestmark = pytest.mark.slow


def random_search(
    axes: dict[str, tuple[Axis, ...]], objectives: tuple[Objective, ...] = (CER,), num: int = 12
) -> SearchResult:
    """Complete, infeasible and pruned points with scores that mean nothing."""
    stream, points = random.Random(2), []
    for arm, arms_axes in axes.items():
        for number in range(num):
            params = {axis.key: draw_value(axis, stream) for axis in arms_axes}
            values = [stream.random() for _ in objectives] if number % 4 != 3 else []
            points.append(make_point(arm, number, params, *values, violations=(stream.uniform(-3, 1),)))
    return make_result(axes, points, *objectives)


ARMS = {"plain": (LR_AXIS, NORM_AXIS), "both": (LR_AXIS, DEPTH_AXIS, LAMBDA_AXIS)}


@pytest.mark.parametrize("objective", [CER, F1])
def test_the_star_is_on_the_best_point(objective: Objective) -> None:
    result = only_lambda_matters(objective=objective)
    figure = contour(result, "a", DEPTH, LAMBDA)
    pick = min if objective.direction == "minimize" else max
    best = pick(result.points, key=lambda point: point.values[0])
    (star,) = [line for line in figure.axes[0].lines if line.get_marker() == "*"]
    assert isinstance(star, Line2D)
    scales = [(make_scale(axis, result.points), axis.key) for axis in (DEPTH_AXIS, LAMBDA_AXIS)]
    place = [scale.coordinate(best.params[key]) for scale, key in scales]
    assert [star.get_xdata()[0], star.get_ydata()[0]] == place  # type: ignore[index]
    assert figure.axes[1].get_ylabel().endswith("(%) ↓" if objective == CER else "(%) ↑")


def test_better_is_darker() -> None:
    def lightness(direction: str, place: float) -> float:
        red, green, blue, _ = colours(direction)(place)
        return float(0.2126 * red + 0.7152 * green + 0.0722 * blue)

    assert lightness("minimize", 0.0) < lightness("minimize", 1.0)
    assert lightness("maximize", 1.0) < lightness("maximize", 0.0)


def test_every_figure_that_applies_is_drawn() -> None:
    names = [name for name, _ in sweep_figures(random_search(ARMS, (CER, FORGETTING)))]
    assert len(set(names)) == len(names)
    assert set(names) == {
        "pareto",
        *(f"{kind}_{metric}" for kind in ("importance", "isolation", "expected_validation",
          "contour_plain_lr_norm_position", "contour_both_stochastic_depth_l2_lambda")
          for metric in ("target_cer", "forgetting")),
    }  # fmt: skip


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    result = random_search({"both": ARMS["both"]})
    first, second = (draw_sweep(result, tmp_path / name) for name in ("first", "second"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert {path.name for path in first} == {path.name for path in (tmp_path / "first").iterdir()}
    assert len(first) == 8 and all(path.read_bytes() for path in first)


def test_text_stays_text_and_the_users_style_is_left_alone(tmp_path: Path) -> None:
    with matplotlib.rc_context({"font.size": 31, "svg.fonttype": "path"}):
        svg, pdf = save(draw_importance(only_lambda_matters()), tmp_path, "importance", ("svg", "pdf"))
        assert matplotlib.rcParams["font.size"] == 31
    text = svg.read_text(encoding="utf-8")
    assert "l2 lambda" in text and "31px" not in text and "<dc:date>" not in text
    assert b"/CreationDate" not in pdf.read_bytes()


BOTH: dict[str, tuple[Axis, ...]] = {"a": (DEPTH_AXIS, LAMBDA_AXIS)}
SAME = [make_point("a", n, {LAMBDA: 10.0 ** -(n % 5 + 1), DEPTH: n / 20}, 0.5) for n in range(10)]
FAILED = [make_point("a", n, {DEPTH: 0.1, LAMBDA: 0.0}, state="failed", reason="nan") for n in range(4)]
MIXED = Axis(key="x.mixed", kind="categorical", choices=(None, True, 3, "three"))
ONE = make_point("a", 0, {DEPTH: 0.1}, 0.3, 0.0)
EDGE_CASES = {
    "nothing": make_result({}, []),
    "axes without points": make_result(BOTH, []),
    "one point": make_result(BOTH, [make_point("a", 0, {DEPTH: 0.1, LAMBDA: 0.0}, 0.3)]),
    "all failed": make_result(BOTH, FAILED),
    "all pruned": make_result(BOTH, [make_point("a", n, {DEPTH: 0.1, LAMBDA: 1e-3}) for n in range(4)]),
    "the same value": make_result(BOTH, SAME),
    "all zero": make_result(BOTH, [make_point("a", n, {DEPTH: 0.0, LAMBDA: 0.0}, 0.1 * n) for n in range(9)]),
    "zeros only": make_result(BOTH, [make_point("a", n, {DEPTH: n / 9, LAMBDA: 0.0}, 0.1 * n) for n in range(9)]),
    "none feasible": make_result(BOTH, [p.model_copy(update={"violations": (1.0,)}) for p in SAME]),
    "a zero score": make_result({"a": (DEPTH_AXIS,)}, [make_point("a", 0, {DEPTH: 0.1}, 0.0)]),
    "categorical only": random_search({"a": (NORM_AXIS, MIXED)}),
    "arms without axes": make_result({"a": ()}, [make_point("a", 0, {}, 0.3), make_point("b", 0, {}, 0.4)]),
    "nine arms": random_search({f"arm_{n}": (DEPTH_AXIS,) for n in range(9)}, num=2),
    "two objectives, one point": make_result({"a": (DEPTH_AXIS,)}, [ONE], F1, FORGETTING),
    "two objectives, none complete": make_result({"a": (DEPTH_AXIS,)}, [make_point("a", 0, {DEPTH: 0.1})], F1, CER),
}


@pytest.mark.parametrize("name", EDGE_CASES)
def test_little_or_nothing_is_drawn_without_a_warning(name: str, tmp_path: Path) -> None:
    paths = [save(figure, tmp_path, name, ("svg",))[0] for name, figure in sweep_figures(EDGE_CASES[name])]
    assert bool(paths) == (name != "nothing")
    assert all(path.stat().st_size > 500 for path in paths)


def test_arms_whose_file_names_agree_get_files_of_their_own() -> None:
    names = [name for name, _ in sweep_figures(random_search({"a b": ARMS["both"], "a/b": ARMS["both"]}, num=2))]
    assert len(set(names)) == len(names) == 5


def test_contours_prefer_the_regularisers_then_what_matters() -> None:
    result = only_lambda_matters()
    assert axis_pairs(result, "a") == [(DEPTH_AXIS, LAMBDA_AXIS)]
    unnamed = [
        SearchPoint.model_validate(
            p.model_dump() | {"params": {key.replace("l2_", ""): v for key, v in p.params.items()}}
        )
        for p in result.points
    ]
    axes = (DEPTH_AXIS, NORM_AXIS, LAMBDA_AXIS.model_copy(update={"key": LAMBDA.replace("l2_", "")}))
    (pair,) = axis_pairs(make_result({"a": axes}, unnamed), "a")
    assert axes[2] in pair
    assert axis_pairs(make_result({"a": (DEPTH_AXIS,)}, []), "a") == []


def test_many_arms_are_all_told_apart() -> None:
    looks = arm_looks([f"arm_{n}" for n in range(30)])
    assert len(set(looks.values())) == 30


def test_what_is_not_there_is_named() -> None:
    result = only_lambda_matters()
    with pytest.raises(UserError, match=r"arm 'a' has no axis 'depth'; axes: adapter\.adapter_strategy"):
        contour(result, "a", "depth", LAMBDA)
    with pytest.raises(UserError, match="needs two objectives, there are 1"):
        draw_pareto(result)


def test_figures_load_no_torch_and_no_pyplot() -> None:
    code = "import sys, harness.figures.sweep_figures; print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "set()"


def test_every_label_lies_inside_its_figure() -> None:
    long = Objective(
        metric="valid_target/a_metric_whose_name_goes_on_for_longer_than_the_axis_is_high", direction="maximize"
    )
    result = random_search({"an_arm_with_a_name_of_some_length": ARMS["both"]}, (long, FORGETTING))
    drawn = [*sweep_figures(result)]
    assert len(drawn) >= 4
    for name, figure in drawn:
        figure.draw_without_rendering()
        for axes in figure.axes:
            for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
                box = label.get_window_extent()
                across = figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
                along = figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
                assert box.width == 0 or (across and along), (name, label.get_text())
