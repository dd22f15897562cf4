"""Two files of outputs side by side: on the terminal, as Markdown, as JSON."""

from __future__ import annotations

import dataclasses
import json

from rich.markup import escape

from harness.checks.compare_outputs import OutputComparison, OutputDifference
from harness.cli.printing import make_grid, open_console
from harness.cli.views.compare import interval_text, p_text
from harness.metrics import METRICS

HEADERS = ("metric", "A", "B", "B - A", "95 % interval", "p (Holm)", "")


def print_comparison(found: OutputComparison, format: str) -> None:
    """Print a comparison: `format` is terminal, md or json."""
    if format == "json":
        print(json.dumps(dataclasses.asdict(found), indent=1, ensure_ascii=False))
        return
    rows = [_row(difference) for difference in found.differences]
    if format == "md":
        print("| " + " | ".join(HEADERS) + " |")
        print("| :--- |" + " ---: |" * (len(HEADERS) - 2) + " :--- |")
        for row in rows:
            print("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
        print()
        for line in _lines(found):
            print(f"- {line}")
        return
    console = open_console()
    console.print(make_grid(HEADERS, rows, f"A: {found.first}   B: {found.second}", right=HEADERS[1:-1]))
    for line in _lines(found):
        console.print(f"  {escape(line)}", highlight=False)


def _row(found: OutputDifference) -> tuple[str, ...]:
    known = METRICS.get(found.metric)
    arrow = "" if known is None else {"higher": " ↑", "lower": " ↓"}[known.direction]
    return (
        f"{found.metric if known is None else known.label}{arrow}",
        f"{found.first:.2f}",
        f"{found.second:.2f}",
        f"{found.difference:+.2f}",
        interval_text(found.interval),
        p_text(found.p_adjusted),
        "" if found.verdict == "unclear" else f"B {found.verdict}",
    )


def _lines(found: OutputComparison) -> list[str]:
    grouped = f" in {found.num_blocks} groups" if found.num_blocks < found.num_items else ""
    lines = [f"A: {found.first}; B: {found.second}; {found.num_items} shared items{grouped}"]
    if found.num_changed is not None:
        lines.append(f"items with another output: {found.num_changed} of {found.num_items}")
    lines.append(
        "interval and test are over the test items (t-test of the linearised difference, whole groups of items); p is "
        "corrected for the number of rows (Holm)"
    )
    lines.append("each side is one trained system: what is found here says nothing of other seeds")
    return [*lines, *found.notes]
