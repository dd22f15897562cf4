"""The calibration as one figure: false marks in a table and coverage of a cell, for three kinds of seeds' noise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibration_page import NOISES
from matplotlib.figure import Figure

from harness.figures.style import INK, PALETTE, new_figure, save, styled

SHOWN = ("gaussian", "spread", "very_skewed", "failing")
BLUE, ORANGE = PALETTE[:2]
MARKERS = {"3": "o", "5": "s", "10": "^"}
METHODS = {"new": ("seeds and items, shared variances (used)", BLUE), "t": ("t-test over seeds", ORANGE)}


@styled
def draw_calibration(found: Mapping[str, Any]) -> Figure:
    """A column of plots a noise, frozen baseline; the dotted lines are what is promised."""
    figure = new_figure(10.5, 5.6)
    rows = figure.subplots(2, len(SHOWN), sharex=True, sharey="row")
    for column, noise in enumerate(SHOWN):
        by_count = found["tables"][noise]["frozen"]
        ratios = list(by_count["3"])
        for row, what in enumerate(("false", "coverage")):
            axes = rows[row][column]
            for method, (_, colour) in METHODS.items():
                for n, marker in MARKERS.items():
                    values = [by_count[n][ratio][f"{what}_{method}"] for ratio in ratios]
                    label = f"{n} seeds" if method == "new" else None
                    axes.plot(range(len(ratios)), values, color=colour, marker=marker, markersize=4.5, label=label)
            axes.axhline(0.05 if what == "false" else 0.95, color=INK, linewidth=0.8, linestyle=":", zorder=0)
            axes.set_xticks(range(len(ratios)), [ratio.removesuffix(".0") for ratio in ratios])
            axes.grid(axis="y")
        rows[0][column].set_title(NOISES[noise], loc="left")
        rows[1][column].set_xlabel("items' error by seeds' error")
    rows[0][0].set_ylabel("a table of 28 comparisons\nhas a false mark")
    rows[1][0].set_ylabel("95 % interval\nholds the truth")
    rows[0][0].set_ylim(0.0, 1.0)
    rows[1][0].set_ylim(0.6, 1.0)
    for axes in rows.flat:
        axes.tick_params(colors=INK)
    rows[1][0].legend(loc="lower left", fontsize=6.5)
    for place, (label, colour) in enumerate(METHODS.values()):
        rows[0][0].text(0.04, 0.92 - 0.1 * place, label, color=colour, fontsize=6.5, transform=rows[0][0].transAxes)
    return figure


def save_calibration(figure: Figure, folder: Path) -> None:
    """calibration.svg."""
    save(figure, folder, "calibration", ("svg",))
