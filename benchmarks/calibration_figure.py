"""The calibration as one figure: coverage over seeds, false marks in a table, coverage over items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.figures.style import DPI, INK, PALETTE, QUIET, new_figure, save, styled

NOISES = {
    "gaussian": "Gaussian seeds",
    "measured_text": "as measured, text",
    "measured_speech": "as measured, speech",
    "skewed": "skewed (log-normal)",
    "failing_seeds": "one seed in ten fails",
}
BLUE, ORANGE, GREEN, PINK, SAND, SKY = PALETTE[:6]
Look = tuple[str, str, str]  # label, colour, marker
SEED_METHODS: dict[str, Look] = {
    "t": ("Student's t (used)", BLUE, "o"),
    "expanded_percentile": ("expanded percentile", SKY, "v"),
    "bca": ("BCa bootstrap", GREEN, "^"),
    "percentile": ("percentile bootstrap", ORANGE, "s"),
}
TABLE_METHODS: dict[str, Look] = {
    "t_holm": ("t, Holm (used)", BLUE, "o"),
    "t_holm_per_column": ("t, Holm per column", SKY, "v"),
    "t_uncorrected": ("t, uncorrected", GREEN, "^"),
    "percentile_uncorrected": ("percentile, uncorrected", ORANGE, "s"),
}
ITEM_METHODS: dict[str, Look] = {
    "bootstrap_t": ("bootstrap-t (used)", BLUE, "o"),
    "bca": ("BCa", GREEN, "^"),
    "percentile": ("percentile", ORANGE, "s"),
    "ignored": ("bootstrap-t, blocks ignored", PINK, "D"),
}
LEVEL_METHODS: dict[str, Look] = {
    "satterthwaite": ("both, Satterthwaite t (used)", BLUE, "o"),
    "bootstrap": ("both, bootstrap", ORANGE, "s"),
    "seeds_only": ("seeds only", SAND, "P"),
    "items_only": ("items only", PINK, "D"),
}


@styled
def draw_calibration(found: Mapping[str, Any]) -> Figure:
    """Three rows of plots from the stored results; the dotted line is what the method promises."""
    figure = new_figure(10.5, 8.4)
    rows = figure.subplots(3, 5, sharey="row")
    for axes, (noise, title) in zip(rows[0], NOISES.items(), strict=True):
        by_count = found["seeds"][noise]
        lines = {method: [by_count[n]["difference"][method]["coverage"] for n in by_count] for method in SEED_METHODS}
        _plot(axes, list(by_count), lines, SEED_METHODS, title)
    for axes, noise in zip(rows[1], NOISES, strict=True):
        by_count = found["seeds"][noise]
        lines = {method: [by_count[n]["table"][method] for n in by_count] for method in TABLE_METHODS}
        _plot(axes, list(by_count), lines, TABLE_METHODS, "")
    _item_row(rows[2], found)
    count = found["settings"]["comparisons_a_table"]
    for row, label in zip(
        rows,
        (
            "95 % interval of a paired\ndifference holds the truth",
            f"a table of {count} comparisons\nhas a false mark",
            "95 % interval holds\nthe truth",
        ),
        strict=True,
    ):
        row[0].set_ylabel(label)
    for axes in [*rows[0], *rows[2]]:
        axes.axhline(0.95, color=INK, linewidth=0.8, linestyle=":", zorder=0)
    for axes in rows[1]:
        axes.axhline(0.05, color=INK, linewidth=0.8, linestyle=":", zorder=0)
        axes.set_xlabel("seeds")
    rows[0][0].set_ylim(0.6, 1.0)
    rows[1][0].set_ylim(0.0, 1.0)
    rows[2][0].set_ylim(0.35, 1.0)
    _legends(rows)
    return figure


def save_calibration(figure: Figure, folder: Path) -> None:
    """calibration.svg, and a calibration.png of half the resolution that print needs: it is for a page."""
    save(figure, folder, "calibration")
    figure.savefig(folder / "calibration.png", dpi=DPI // 2, metadata={"Software": None})


def _item_row(row: Sequence[Axes], found: Mapping[str, Any]) -> None:
    cer, text, speakers = found["character_error_rate"], found["text"], found["speakers"]
    documents, levels = found["documents"], found["two_level"]
    own = [method for method in ITEM_METHODS if method != "ignored"]
    lines = {method: [cer[size]["difference"][method]["coverage"] for size in cer] for method in own}
    _plot(row[0], list(cer), lines, ITEM_METHODS, "CER difference", "utterances")
    lines = {method: [text[size]["macro_f1_difference"][method]["coverage"] for size in text] for method in own}
    _plot(row[1], list(text), lines, ITEM_METHODS, "macro-F1 difference", "sentences")
    lines = {method: [speakers[n][f"speakers_{method}"]["coverage"] for n in speakers] for method in own}
    lines["ignored"] = [speakers[n]["utterances_bootstrap_t"]["coverage"] for n in speakers]
    _plot(row[2], list(speakers), lines, ITEM_METHODS, "CER, 240 utterances", "speakers")
    names = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
    lines = {method: [documents[name][f"documents_{method}"]["coverage"] for name in names] for method in own}
    lines["ignored"] = [documents[name]["sentences_bootstrap_t"]["coverage"] for name in names]
    _plot(row[3], list(names.values()), lines, ITEM_METHODS, "43 documents", "", joined=False)
    lines = {method: [levels[n][method]["coverage"] for n in levels] for method in LEVEL_METHODS}
    _plot(row[4], list(levels), lines, LEVEL_METHODS, "seeds and items", "seeds (120 utterances)")


def _plot(
    axes: Axes,
    labels: Sequence[str],
    lines: Mapping[str, Sequence[float]],
    looks: Mapping[str, Look],
    title: str,
    x_label: str = "",
    joined: bool = True,
) -> None:
    places = range(len(labels))
    for method, values in lines.items():
        label, colour, marker = looks[method]
        style = "-" if joined else "none"
        axes.plot(
            places, values, color=colour, marker=marker, markersize=4.5, linestyle=style, label=label, clip_on=False
        )
    axes.set_xticks(list(places), labels)
    axes.set_xlim(-0.25, len(labels) - 0.75)
    axes.set_title(title, loc="left")
    axes.set_xlabel(x_label)
    axes.grid(axis="y")


def _legends(rows: Any) -> None:
    """One legend a row (two for the last), over the plots that it explains."""
    rows[0][0].legend(*rows[0][0].get_legend_handles_labels(), loc="lower right", fontsize=6.5)
    rows[1][0].legend(
        *rows[1][0].get_legend_handles_labels(), loc="center right", fontsize=6.5, bbox_to_anchor=(1.0, 0.33)
    )
    rows[2][3].legend(*rows[2][3].get_legend_handles_labels(), loc="lower right", fontsize=6.5)
    rows[2][4].legend(*rows[2][4].get_legend_handles_labels(), loc="lower right", fontsize=6.5)
    for row in rows:
        for axes in row:
            axes.tick_params(colors=INK)
            axes.yaxis.label.set_color(QUIET if axes is not row[0] else INK)
