"""The calibration as the two Markdown tables of docs/explanation/statistics.md, between its marker lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- calibration.json, begin -->", "<!-- calibration.json, end -->"
NOISES = {
    "gaussian": "Gaussian",
    "measured_text": "as measured, text",
    "measured_speech": "as measured, speech",
    "skewed": "log-normal",
    "failing_seeds": "one seed in ten fails",
}


def write_tables(found: Mapping[str, Any], page: Path) -> None:
    """Put the tables of `found` between the markers of a page.

    Raises:
        ValueError: the page has no markers.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN + "\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: no lines {BEGIN} and {END} between which the tables go")
    page.write_text(before + begin + tables(found) + end + after, encoding="utf-8")


def tables(found: Mapping[str, Any]) -> str:
    """Both tables, with a blank line around each."""
    return f"\n{seed_table(found)}\n\n{item_table(found)}\n\n"


def seed_table(found: Mapping[str, Any]) -> str:
    """Noise by number of seeds: coverage of the paired difference, and tables with a false mark, in percent."""
    rows = []
    for noise, title in NOISES.items():
        for n, cell in found["seeds"][noise].items():
            difference, table = cell["difference"], cell["table"]
            values = [difference[m]["coverage"] for m in ("t", "bca", "percentile")]
            values += [table[m] for m in ("t_holm", "t_uncorrected", "percentile_uncorrected")]
            rows.append([title if n == "3" else "", n, *map(_percent, values)])
    header = ["seeds' noise", "n", "t", "BCa", "percentile", "t, Holm", "t, uncorrected", "percentile, uncorrected"]
    return _markdown(header, rows, 1)


def item_table(found: Mapping[str, Any]) -> str:
    """Coverage over items and over both levels, in percent."""
    cer, text, speakers = found["character_error_rate"], found["text"], found["speakers"]
    documents, levels = found["documents"], found["two_level"]
    rows = [_row(f"CER difference, {size} utterances", cer[size]["difference"], "{}") for size in cer]
    rows += [_row(f"macro-F1 difference, {size} sentences", text[size]["macro_f1_difference"], "{}") for size in text]
    rows += [
        [
            *_row(f"CER, 240 utterances of {n} speakers", speakers[n], "speakers_{}"),
            _cover(speakers[n]["utterances_bootstrap_t"]),
        ]
        for n in speakers
    ]
    rows += [
        [
            *_row(f"{name}, 43 documents", documents[key], "documents_{}"),
            _cover(documents[key]["sentences_bootstrap_t"]),
        ]
        for key, name in (("accuracy", "accuracy"), ("macro_f1", "macro-F1"))
    ]
    header = ["95 % interval of", "bootstrap-t", "BCa", "percentile", "bootstrap-t, blocks ignored"]
    first = _markdown(header, [[*row, *[""] * (len(header) - len(row))] for row in rows], 1)
    methods = ("satterthwaite", "bootstrap", "seeds_only", "items_only")
    both = [[f"{n} seeds, 120 utterances", *(_cover(levels[n][m]) for m in methods)] for n in levels]
    header = ["difference for new seeds and new items", "Satterthwaite t", "bootstrap", "seeds alone", "items alone"]
    return first + "\n\n" + _markdown(header, both, 1)


def _row(title: str, cell: Mapping[str, Any], key: str) -> list[str]:
    return [title, *(_cover(cell[key.format(method)]) for method in ("bootstrap_t", "bca", "percentile"))]


def _cover(cell: Mapping[str, float]) -> str:
    return _percent(cell["coverage"])


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]], num_left: int) -> str:
    rule = [":---" if index < num_left else "---:" for index in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])
