"""Draw forgetting against gain: what each arm gains on the target and loses on the sources, and the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.figures.pareto import non_dominated
from harness.figures.scores import focus
from harness.figures.style import (
    FAINT,
    QUIET,
    WIDTH,
    add_legend,
    add_note,
    arm_looks,
    fit_label,
    new_figure,
    say,
    styled,
    words_of,
)

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
    figure = new_figure(WIDTH, 5.4)
    axes = figure.subplots()
    if not shown:
        say(axes, "No finished trial.")
        return figure
    axes.axhline(0, color=FAINT, linewidth=1.0, zorder=1)
    axes.axvline(0, color=FAINT, linewidth=1.0, zorder=1)
    front = front_of_arms(shown)
    outside = _focus(axes, shown)
    for arm, (colour, marker) in arm_looks(shown).items():
        for run in shown[arm]:
            axes.plot(run.gain, run.forgetting, marker, color=colour, markersize=3.2, alpha=0.45, zorder=2)
        mean = mean_of(shown[arm])
        axes.plot(mean.gain, mean.forgetting, marker, color=colour, markersize=8, markeredgecolor="white",
                  markeredgewidth=0.9, zorder=5, label=f"{words_of(arm)}{_remark(arm, front, outside)}")  # fmt: skip
    means = [mean_of(shown[arm]) for arm in front]
    axes.plot([m.gain for m in means], [m.forgetting for m in means], color=QUIET, linewidth=1.0, zorder=3,
              drawstyle="steps-pre")  # fmt: skip
    axes.set_xlabel(f"gain on the target (points of {metric}) →")
    axes.set_ylabel(fit_label(f"forgetting on the sources (points of {metric})", 2.6))
    axes.set_title("better: lower right ↘", loc="right", fontsize=8, color=QUIET)
    add_legend(figure, "outside upper left")
    notes = ["Test sets; small marks: single seeds; large marks: means; line: the front of the means."]
    if outside:
        far = [
            f"{words_of(arm)} (gain {mean.gain:+.1f}, forgetting {mean.forgetting:+.1f})"
            for arm, mean in outside.items()
        ]
        notes.append(f"Far outside, not shown: {', '.join(far)}.")
    add_note(figure, "\n".join(notes))
    return figure


def _remark(arm: str, front: Sequence[str], outside: Mapping[str, Outcome]) -> str:
    return " (front)" if arm in front else " (outside)" if arm in outside else ""


def _focus(axes: Axes, shown: Mapping[str, Sequence[Outcome]]) -> dict[str, Outcome]:
    """Set limits that leave out means far off on the bad side; return these by arm."""
    means = {arm: mean_of(runs) for arm, runs in shown.items()}
    gains, losses = [m.gain for m in means.values()], [m.forgetting for m in means.values()]
    left, right = focus(gains, "maximize")
    bottom, top = focus(losses, "minimize")
    kept = [
        run for arm, runs in shown.items() for run in runs if means[arm].gain >= left and means[arm].forgetting <= top
    ]
    left, right = min(left, *(run.gain for run in kept), 0.0), max(right, *(run.gain for run in kept), 0.0)
    bottom, top = min(bottom, *(run.forgetting for run in kept), 0.0), max(top, *(run.forgetting for run in kept), 0.0)
    pads = [0.07 * (high - low) or 1.0 for low, high in ((left, right), (bottom, top))]
    axes.set_xlim(left - pads[0], right + pads[0])
    axes.set_ylim(bottom - pads[1], top + pads[1])
    return {arm: mean for arm, mean in means.items() if mean.gain < left or mean.forgetting > top}
