"""Learning curves: validation scores after each epoch, a panel an arm, every seed, target and sources.

All panels share their axes, so arms can be compared; the base model's scores are the horizontal lines.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from harness.figures.labels import MetricLabel
from harness.figures.style import PALETTE, QUIET, WIDTH, add_legend, new_figure, say, styled, words_of

TARGET, SOURCE = PALETTE[0], PALETTE[1]
COLUMNS = 3


@dataclass(frozen=True)
class Curve:
    """One training: validation scores by epoch (fractions), and the epoch (from 1) whose weights were kept."""

    seed: int
    target: tuple[float, ...]
    source: tuple[float, ...]
    best_epoch: int


@styled
def draw_learning_curves(
    curves: Mapping[str, Sequence[Curve]], label: MetricLabel, base: tuple[float, float] | None = None
) -> Figure:
    """A panel an arm.

    Args:
        curves: arm -> its trainings; an arm without any gets no panel.
        label: of the validation metric.
        base: the base model's scores on target and sources; None where no record has them.
    """
    shown = {arm: runs for arm, runs in curves.items() if any(run.target for run in runs)}
    if not shown:
        figure = new_figure(5.0, 2.0)
        say(figure.subplots(), "No arm trains anything.")
        return figure
    columns = min(COLUMNS, len(shown))
    rows = ceil(len(shown) / columns)
    figure = new_figure(WIDTH, 0.75 + 1.9 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    panels = [axes for row in grid for axes in row]
    for axes, (arm, runs) in zip(panels, shown.items(), strict=False):
        _draw_panel(axes, arm, runs, label, base)
    for place, axes in enumerate(panels):
        if place >= len(shown):
            axes.set_axis_off()
        elif place + columns >= len(shown):  # nothing below it
            axes.tick_params("x", labelbottom=True)
            axes.set_xlabel("epoch")
    figure.supylabel(label.full, fontsize=9)
    add_legend(figure, "outside upper left", _legend(base is not None))
    return figure


def _draw_panel(
    axes: Axes, arm: str, runs: Sequence[Curve], label: MetricLabel, base: tuple[float, float] | None
) -> None:
    axes.set_title(textwrap.fill(words_of(arm), 30), loc="left", fontweight="bold", fontsize=8.5)
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, min_n_ticks=1))
    for place, colour in enumerate((TARGET, SOURCE)):
        if base is not None:
            axes.axhline(base[place] * label.scale, color=colour, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        lines = [[value * label.scale for value in (run.target, run.source)[place]] for run in runs]
        for run, line in zip(runs, lines, strict=True):
            axes.plot(range(1, len(line) + 1), line, color=colour, linewidth=0.7, alpha=0.45, zorder=2)
            if 1 <= run.best_epoch <= len(line):
                axes.plot([run.best_epoch], [line[run.best_epoch - 1]], "o", color=colour, markersize=3, zorder=4)
        common = min(len(line) for line in lines)  # beyond it, a mean would be one of fewer seeds
        mean = [fmean(line[epoch] for line in lines) for epoch in range(common)]
        axes.plot(range(1, common + 1), mean, color=colour, linewidth=1.8, zorder=3)


def _legend(with_base: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], color=TARGET, linewidth=1.8, label="target, mean over seeds"),
        Line2D([], [], color=SOURCE, linewidth=1.8, label="sources, mean over seeds"),
        Line2D([], [], color=QUIET, linewidth=0.7, marker="o", markersize=3, label="one seed, its kept epoch"),
    ]
    if with_base:
        handles.append(Line2D([], [], color=QUIET, linewidth=0.9, linestyle=(0, (1, 2)), label="base model"))
    return handles
