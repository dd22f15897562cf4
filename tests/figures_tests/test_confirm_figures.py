"""Figures of finished experiments: learning curves, forgetting against gain, attention."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from harness.errors import UserError
from harness.figures.attention import Attention, draw_attention, mean_attention, parse_attention
from harness.figures.learning_curves import SOURCE, TARGET, Curve, draw_learning_curves
from harness.figures.style import save
from harness.figures.tradeoff import Outcome, draw_tradeoff, front_of_arms, mean_of
from harness.report.drawings import primary_label

LABEL = primary_label("macro_f1")


def texts(figure: Figure) -> str:
    return " ".join(item.get_text() for item in figure.findobj(Text) if isinstance(item, Text))


def points(line: Line2D) -> list[tuple[float, float]]:
    """A line's points."""
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]


def lines(figure: Figure, colour: str, width: float) -> list[Line2D]:
    found = [line for axes in figure.axes for line in axes.get_lines()]
    return [line for line in found if line.get_color() == colour and line.get_linewidth() == width]


def test_every_seed_and_their_mean_as_far_as_all_went() -> None:
    runs = [Curve(0, (0.2, 0.4, 0.6), (0.8, 0.7, 0.6), 3), Curve(1, (0.4, 0.6), (0.6, 0.5), 1)]
    figure = draw_learning_curves({"arm": runs, "frozen": []}, LABEL, (0.1, 0.9))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["arm"]
    (mean,) = lines(figure, TARGET, 1.8)
    assert [y for _, y in points(mean)] == pytest.approx([30.0, 50.0])  # not a third epoch, that one seed alone has
    assert sorted(len(points(line)) for line in lines(figure, SOURCE, 0.7)) == [2, 3]
    kept = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    spots = [points(line)[0] for line in kept]
    assert [x for x, _ in spots] == [3, 1, 3, 1]
    assert [y for _, y in spots] == pytest.approx([60.0, 40.0, 60.0, 60.0])
    base = [points(line)[0][1] for line in figure.axes[0].get_lines() if line.get_linestyle() == "--"]
    assert base == pytest.approx([10.0, 90.0])


@pytest.mark.slow
@pytest.mark.parametrize("num", [1, 2, 3, 4, 7])
def test_panels_for_any_number_of_arms(num: int, tmp_path: Path) -> None:
    curves = {
        f"arm_{n}_with_a_very_long_name_that_is_wrapped": [Curve(0, (0.1, 0.2), (0.3, 0.2), 2)] for n in range(num)
    }
    figure = draw_learning_curves(curves, LABEL)
    assert sum(axes.axison for axes in figure.axes) == num
    for path in save(figure, tmp_path, "curves", ("svg", "pdf")):
        assert path.stat().st_size > 2000


def test_nothing_to_draw_is_said() -> None:
    assert "No arm trains anything." in texts(draw_learning_curves({"frozen": []}, LABEL))
    assert "No finished trial." in texts(draw_tradeoff({"a": []}, "CER"))


def test_the_front_holds_exactly_the_arms_that_no_other_beats() -> None:
    outcomes = {
        "base": [Outcome(0, 0)],
        "good": [Outcome(2, 1), Outcome(4, 1)],
        "beaten": [Outcome(2, 2)],
        "most": [Outcome(5, 4)],
    }
    assert front_of_arms(outcomes) == ["base", "good", "most"]
    assert mean_of(outcomes["good"]) == Outcome(3, 1)
    stream = random.Random(1)
    for _ in range(50):
        arms = {str(n): [Outcome(stream.randint(0, 5), stream.randint(0, 5))] for n in range(8)}
        front = front_of_arms(arms)
        for arm, (own,) in arms.items():
            beaten = any(o.gain >= own.gain and o.forgetting <= own.forgetting and o != own for (o,) in arms.values())
            assert (arm in front) == (not beaten)


def test_an_arm_far_outside_is_named_instead_of_flattening_the_rest() -> None:
    outcomes = {f"arm{n}": [Outcome(n, n / 2), Outcome(n + 0.5, n / 2)] for n in range(6)} | {
        "lost": [Outcome(-90, 60)]
    }
    figure = draw_tradeoff(outcomes, "CER")
    low, high = figure.axes[0].get_xlim()
    assert -5 < low < 0 and 5 < high < 8
    assert "Far outside, not shown: lost (gain -90.0, forgetting +60.0)." in texts(figure)
    for arm in outcomes:
        assert any(arm in label.get_text() for label in figure.legends[0].get_texts())


def test_attention_is_averaged_and_written_into_its_fields() -> None:
    runs = [Attention(("en", "es"), {"0": (0.2, 0.8)}), Attention(("en", "es"), {"0": (0.4, 0.6)})]
    mean = mean_attention(runs)
    assert mean.layers["0"] == pytest.approx((0.3, 0.7))
    figure = draw_attention("fusion", mean, 2)
    assert "0.30" in texts(figure) and "0.70" in texts(figure)
    with pytest.raises(UserError, match="different adapters"):
        mean_attention([runs[0], Attention(("en", "fr"), {"0": (0.5, 0.5)})])


@pytest.mark.parametrize(
    "content",
    [{}, {"adapters": ["a"], "layers": {}}, {"adapters": ["a"], "layers": {"0": [0.5, 0.5]}},
     {"adapters": ["a"], "layers": {"0": [float("nan")]}}, {"adapters": ["a", "b"], "layers": {"0": [0.4, 0.5]}}],
)  # fmt: skip
def test_wrong_attention_names_the_file(content: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"^attention\.json: "):
        parse_attention(content, "attention.json")
