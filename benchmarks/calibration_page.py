"""The calibration as the Markdown tables of docs/explanation/statistics.md, between its marker lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- calibration.json, begin -->", "<!-- calibration.json, end -->"
NOISES = {
    "gaussian": "Gaussian",
    "spread": "arms' sds spread 0.4",
    "wide": "arms' sds spread 0.76",
    "loud": "one arm 5 times as loud",
    "heavy": "Student t4",
    "skewed": "log-normal 0.3",
    "very_skewed": "log-normal 0.5",
    "failing": "one seed in ten fails",
}

LOUD = {
    "loud_5": "1 of 7 arms 5 times as loud",
    "loud_10": "1 of 7 arms 10 times",
    "loud_30": "1 of 7 arms 30 times",
    "loud_100": "1 of 7 arms 100 times",
    "loud_1000": "1 of 7 arms 1,000 times",
    "quiet_4_of_6": "2 of 6 arms 75 times, 4 quiet",
    "quiet_4_of_7": "3 of 7 arms 75 times, 4 quiet",
    "quiet_3_of_6": "3 of 6 arms 75 times, 3 quiet",
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
    """All tables, with a blank line around each."""
    made = [whole_tables(found["tables"], baseline) for baseline in ("frozen", "trained")]
    made += [
        small_tables(found["small_tables"]),
        loud(found["loud"]),
        alone(found["alone"]),
        cells(found["cells"]),
        items(found),
    ]
    return "\n" + "\n\n".join(made) + "\n\n"


def whole_tables(found: Mapping[str, Any], baseline: str) -> str:
    """Noise by number of seeds, for each ratio: false marks / coverage / power, and the t-test's in brackets."""
    rows = []
    for noise, title in NOISES.items():
        for n, by_ratio in found[noise][baseline].items():
            rows.append([title if n == "3" else "", n, *(_whole(cell) for cell in by_ratio.values())])
    ratios = list(found["gaussian"][baseline]["3"])
    header = [f"{baseline} baseline; seeds' noise", "n", *(f"items / seeds = {ratio}" for ratio in ratios)]
    return _markdown(header, rows)


def _whole(cell: Mapping[str, float]) -> str:
    ours, t = (
        " / ".join([_percent(cell[f"{what}_{name}"]) for what in ("false", "coverage")] + [_whole_percent(cell, name)])
        for name in ("new", "t")
    )
    return f"{ours} (t: {t})"


def _whole_percent(cell: Mapping[str, float], name: str) -> str:
    return f"{100 * cell[f'power_{name}']:.0f}"


def small_tables(found: Mapping[str, Any]) -> str:
    """Tables of few arms: false marks of each comparison by itself, and with shared variances."""
    rows = []
    for arms, by_noise in found.items():
        for noise, by_count in by_noise.items():
            for n, rules in by_count.items():
                rows.append([arms, NOISES[noise], n, _percent(rules["alone"]), _percent(rules["shared"])])
    return _markdown(["compared arms", "seeds' noise", "n", "each by itself", "variances shared"], rows)


def loud(found: Mapping[str, Any]) -> str:
    """Loud arms by columns and seeds: tables with a false mark / coverage of the loud arms, and the t-test's."""
    columns, counts = list(found["loud_5"]), list(found["loud_5"]["1"])
    rows = [
        [LOUD[kind], n, *(_loud(by_column[c][n]) for c in columns)] for kind, by_column in found.items() for n in counts
    ]
    for row in rows:
        row[0] = row[0] if row[1] == counts[0] else ""
    return _markdown(["loud arms", "n", *(f"columns: {c}" for c in columns)], rows)


def _loud(cell: Mapping[str, float]) -> str:
    ours, t = (f"{_percent(cell[f'false_{name}'])} / {_percent(cell[f'coverage_{name}'])}" for name in ("new", "t"))
    return f"{ours} (t: {t})"


def alone(found: Mapping[str, Any]) -> str:
    """One comparison by itself: false marks in percent, at 5 % and at 5 % / 24."""
    ratios = list(next(iter(found.values())))
    rows = [
        [n, *(f"{_percent(cell['5 %'])} / {100 * cell['5 % / 24']:.2f}" for cell in by_ratio.values())]
        for n, by_ratio in found.items()
    ]
    return _markdown(["one comparison; n", *(f"items / seeds = {ratio}" for ratio in ratios)], rows)


def cells(found: Mapping[str, Any]) -> str:
    """A cell's own interval over seeds: coverage by Student's t and by the percentile bootstrap."""
    rows = [
        [NOISES[noise], *(f"{_percent(cell['t'])} / {_percent(cell['percentile'])}" for cell in by_count.values())]
        for noise, by_count in found.items()
    ]
    return _markdown(["a cell over seeds: t / percentile bootstrap", "n = 3", "n = 5", "n = 10"], rows)


def items(found: Mapping[str, Any]) -> str:
    """Coverage over items."""
    cer, text, speakers = found["character_error_rate"], found["text"], found["speakers"]
    rows = [[f"CER, {size} utterances", *_both(cell), ""] for size, cell in cer.items()]
    rows += [[f"macro F1, {size} sentences", *_both(cell), ""] for size, cell in text.items()]
    rows += [
        [f"CER, 240 utterances of {n} speakers", _percent(cell["grouped"]), "", _percent(cell["ignored"])]
        for n, cell in speakers.items()
    ]
    return _markdown(["95 % interval over items", "one system", "difference of two", "groups ignored"], rows)


def _both(cell: Mapping[str, float]) -> tuple[str, str]:
    return _percent(cell["one"]), _percent(cell["difference"])


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = [":---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])
