"""Inline figures: unique ids, no style attribute, text as text, colours as variables."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from matplotlib.figure import Figure

from harness.figures.learning_curves import Curve, draw_learning_curves
from harness.figures.tradeoff import Outcome, draw_tradeoff
from harness.report.drawings import primary_label
from harness.report.inline_svg import StyleSheet, inline_svg, to_svg

NASTY = "<b>&\"'"


@pytest.fixture
def figures() -> list[Figure]:
    curves = {f"arm {NASTY}": [Curve(0, (0.4, 0.5), (0.6, 0.5), 2)], "other": [Curve(0, (0.4,), (0.6,), 1)]}
    outcomes = {f"arm {NASTY}": [Outcome(1.0, 2.0), Outcome(2.0, 2.5)], "other": [Outcome(0.0, 0.0)]}
    return [
        draw_learning_curves(curves, primary_label("macro_f1"), (0.4, 0.6)),
        draw_tradeoff(outcomes, "macro F1"),
    ]


def test_they_stand_side_by_side(figures: list[Figure]) -> None:
    sheet = StyleSheet()
    page = "".join(inline_svg(to_svg(figure), f"f{n}-", f"title {NASTY}", sheet) for n, figure in enumerate(figures))
    assert "style=" not in page and "<style" not in page and "<?xml" not in page and "<!DOCTYPE" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 20
    for reference in re.findall(r"url\(#([^)]+)\)", page + sheet.css) + re.findall(r'href="#([^"]+)"', page):
        assert reference in ids
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        root = ET.fromstring(svg)
        texts = ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("}text")]
        assert any(f"arm {NASTY}" in text for text in texts)  # vector text, escaped
        assert root.get("aria-labelledby") in ids
        assert root.get("width") is None
    classes = {name for found in re.findall(r'class="([^"]+)"', page) for name in found.split()}
    assert {name for name in classes if re.fullmatch(r"s\d+", name)} == set(sheet.names.values())


def test_house_colours_follow_the_theme_and_scales_do_not(figures: list[Figure]) -> None:
    themed, plain = StyleSheet(), StyleSheet()
    document = to_svg(figures[0])
    inline_svg(document, "a-", "", themed)
    inline_svg(document, "a-", "", plain, themed=False)
    assert "var(--fig-1)" in themed.css and "#0072b2" not in themed.css.lower()
    assert "var(" not in plain.css and "#0072b2" in plain.css.lower()


def test_the_same_figure_is_the_same_text(figures: list[Figure]) -> None:
    assert to_svg(figures[0]) == to_svg(figures[0])
