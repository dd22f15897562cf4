"""Forgetting against gain: what each arm wins on the target and loses on the sources, and who is on the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.figure import Figure

from harness.figures.pareto import non_dominated
from harness.figures.style import FAINT, QUIET, add_legend, add_note, arm_looks, new_figure, say, styled

DIRECTIONS = ("maximize", "minimize")


@dataclass(frozen=True)
class Outcome:
    """One training: target error won and source error lost against the base model, in points."""

    gain: float
    forgetting: float


def front_of_arms(outcomes: Mapping[str, Sequence[Outcome]]) -> list[str]:
    """The arms whose mean no other arm's mean beats on both counts, by rising gain."""
    means = {arm: mean_of(runs) for arm, runs in outcomes.items() if runs}
    arms = list(means)
    kept = non_dominated([(means[arm].gain, means[arm].forgetting) for arm in arms], DIRECTIONS)
    return sorted((arms[index] for index in kept), key=lambda arm: (means[arm].gain, means[arm].forgetting))


def mean_of(runs: Sequence[Outcome]) -> Outcome:
    """The mean over seeds."""
    return Outcome(fmean(run.gain for run in runs), fmean(run.forgetting for run in runs))


@styled
def draw_tradeoff(outcomes: Mapping[str, Sequence[Outcome]], metric: str) -> Figure:
    """Every seed small, every arm's mean large, the front of the means as steps.

    Args:
        outcomes: arm -> its trainings on the test sets.
        metric: the primary metric's name, as on an axis (`macro F1`).
    """
    shown = {arm: runs for arm, runs in outcomes.items() if runs}
    figure = new_figure(5.8, 4.6)
    axes = figure.subplots()
    if not shown:
        say(axes, "No finished trial.")
        return figure
    axes.axhline(0, color=FAINT, linewidth=1.0, zorder=1)
    axes.axvline(0, color=FAINT, linewidth=1.0, zorder=1)
    front = front_of_arms(shown)
    for arm, (colour, marker) in arm_looks(shown).items():
        for run in shown[arm]:
            axes.plot(run.gain, run.forgetting, marker, color=colour, markersize=3.2, alpha=0.45, zorder=2)
        mean = mean_of(shown[arm])
        axes.plot(mean.gain, mean.forgetting, marker, color=colour, markersize=8, markeredgecolor="white",
                  markeredgewidth=0.9, zorder=5, label=f"{arm}{' (front)' if arm in front else ''}")  # fmt: skip
    means = [mean_of(shown[arm]) for arm in front]
    axes.plot([m.gain for m in means], [m.forgetting for m in means], color=QUIET, linewidth=1.0, zorder=3,
              drawstyle="steps-pre")  # fmt: skip
    axes.set_xlabel(f"gain on the target (points of {metric}) →")
    axes.set_ylabel(f"forgetting on the sources (points of {metric})")
    axes.set_title("better: lower right ↘", loc="right", fontsize=8, color=QUIET)
    axes.margins(0.08)
    add_legend(figure, "outside upper left")
    add_note(figure, "Test sets; small marks: single seeds; large marks: means; line: the front of the means.")
    return figure
