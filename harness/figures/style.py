"""Style and save every figure: one style, no pyplot state, the same bytes for the same data.

Colours are Okabe and Ito's, told apart with any colour vision (https://jfly.uni-koeln.de/color/); arms differ in their
marker too, so that a figure survives black-and-white print. Text stays text in SVG and PDF.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

P = ParamSpec("P")
T = TypeVar("T")

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A800")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
INK = "#222222"
QUIET = "#767676"  # notes and pruned trials
FAINT = "#DDDDDD"
DPI = 200
WIDTH = 7.6  # inches: every figure is as wide as the page of the report

RC: dict[str, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],  # the first comes with matplotlib: the same everywhere
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": INK,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": DPI,
    "text.parse_math": False,  # a name with dollars is a name; no label of ours is a formula
    "svg.fonttype": "none",
    "svg.hashsalt": "harness",
    "pdf.fonttype": 42,
}


def styled(function: Callable[P, T]) -> Callable[P, T]:
    """Run a function under the style alone: a user's matplotlibrc changes nothing, and nothing is left behind."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with matplotlib.style.context(["default", RC]):
            return function(*args, **kwargs)

    return run


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches that keeps its parts from overlapping."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def words_of(name: str) -> str:
    """An identifier as a label for people: `residual_add_depth` -> `residual add depth`."""
    return name.replace("_", " ")


def fit_label(text: str, inches: float) -> str:
    """An axis label over as many lines as it needs along an axis of this length."""
    return textwrap.fill(text, max(12, int(inches * 72 / (9 * 0.56))))


def arm_looks(arms: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Each arm's colour and marker, by its place among the arms; beyond eight arms the pairs shift, none repeats."""
    looks = {}
    for place, arm in enumerate(arms):
        shift = place // len(PALETTE)
        looks[arm] = PALETTE[place % len(PALETTE)], MARKERS[(place + shift) % len(MARKERS)]
    return looks


def say(axes: Axes, words: str) -> None:
    """Show words in place of a plot that cannot be drawn."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", va="center", color=QUIET, transform=axes.transAxes, wrap=True)


def add_note(figure: Figure, words: str) -> None:
    """A line (or several) under everything else: what the reader must know to read the figure."""
    width = int(figure.get_figwidth() * 72 / (7.5 * 0.56))  # letters that fit
    lines = [textwrap.fill(line, width) for line in words.split("\n")]
    figure.supxlabel("\n".join(lines), fontsize=7.5, color=QUIET, x=0.01, ha="left")


def add_legend(figure: Figure, place: Any, handles: list[Line2D] | None = None) -> None:
    """A legend outside the plots, with as many columns as the figure is wide enough for."""
    shown: list[Any] = handles or [handle for axes in figure.axes for handle in axes.get_legend_handles_labels()[0]]
    if not shown:
        return
    longest = max(len(str(handle.get_label())) for handle in shown)
    column = (longest * 8 * 0.58 + 44) / 72  # inches: the letters, the handle, the gaps
    figure.legend(handles=shown, loc=place, ncols=max(1, min(4, int(figure.get_figwidth() / column))))


def slug(text: str) -> str:
    """A part of a file's name: `valid_target/cer` -> `valid_target_cer`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._") or "_"


METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


@styled
def save(figure: Figure, folder: Path, name: str, kinds: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write NAME.KIND for each kind (png, svg, pdf), without a date: the same figure gives the same bytes.

    Returns:
        the files, in the order of the kinds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Drawing moves what the layout arranges, by less than a pixel. SVG goes first, so it is that of any other call.
    for kind in sorted(kinds, key=("svg", "pdf", "png").index):
        figure.savefig(folder / f"{name}.{kind}", metadata=METADATA[kind])
    return [folder / f"{name}.{kind}" for kind in kinds]
