"""Two experiments or arms side by side: on the terminal, as Markdown, as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from harness.checks.compare import Difference, Group, SideBySide
from harness.checks.examples import Example
from harness.checks.items import ItemChanges
from harness.cli.printing import make_grid, open_console
from harness.metrics import RECORDED
from harness.statistics import Interval
from harness.tables.names import metric_header
from harness.tables.render.terminal import escape

HEADERS = ("arm", "metric", "A", "B", "B - A", "95 % interval", "p (Holm)", "pairs", "")


def as_json(found: SideBySide) -> dict[str, object]:
    """Everything in a comparison, for programs."""
    content = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    content["differences"] = [dataclasses.asdict(item) for item in found.differences]
    content["items"] = [dataclasses.asdict(item) for item in found.items]
    content["settings"] = [
        {"arms": list(arms), "differing": [list(entry) for entry in entries]}
        for arms, entries in found.settings.items()
    ]
    return content


def difference_row(found: Difference) -> tuple[str, ...]:
    """A difference as text, in the order of `HEADERS`."""
    metric = RECORDED[found.metric]
    arrow = {"higher": "↑", "lower": "↓"}[metric.direction]
    unit = f" ({metric.unit})" if metric.unit else ""
    return (
        found.arms[0] if found.arms[0] == found.arms[1] else f"{found.arms[0]} -> {found.arms[1]}",
        f"{metric_header(found.metric)}{unit} {arrow}",
        group_text(found.first),
        group_text(found.second),
        f"{found.difference:+.2f}",
        interval_text(found.interval),
        p_text(found.p_adjusted),
        str(found.num_pairs) if found.num_pairs else "unpaired",
        "" if found.verdict == "unclear" else f"B {found.verdict}",
    )


def group_text(group: Group) -> str:
    """Mean, sd and number of seeds."""
    sd = "" if group.sd is None else f" ± {group.sd:.2f}"
    return f"{group.mean:.2f}{sd} (n {group.count})"


def interval_text(interval: Interval | None) -> str:
    """An interval's ends; a dash where there is none."""
    return "–" if interval is None else f"{interval.low:+.2f} to {interval.high:+.2f}"


def p_text(p: float | None) -> str:
    """A p-value to two digits; a dash where no test was possible."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}"


def notes_of(found: SideBySide) -> list[str]:
    """The lines under the table."""
    notes = [
        f"A: {found.first}; B: {found.second}; each with mean ± sample standard deviation over the seeds",
        f"{_over(found)}; p is corrected for the number of distinct tests (Holm)",
    ]
    arms_of: dict[str, list[str]] = {}
    for arms, entries in found.settings.items():
        changed = "; ".join(f"{key} {one} -> {other}" for key, one, other in entries)
        arms_of.setdefault(changed, []).append(arms[0] if arms[0] == arms[1] else f"{arms[0]} -> {arms[1]}")
    for changed, names in arms_of.items():
        if changed:
            which = "all arms" if len(arms_of) == 1 and len(names) > 1 else ", ".join(names)
            notes.append(f"settings of {which}: {changed}")
    return [*notes, *found.notes]


def _over(found: SideBySide) -> str:
    """What interval and test are over, in words."""
    kinds = []
    paired = [difference for difference in found.differences if difference.num_pairs]
    if any(difference.item_error is not None for difference in paired):
        kinds.append("interval and test are over the shared seeds and the test items")
    if any(difference.item_error is None and difference.p is not None for difference in paired):
        kinds.append(
            "over the shared seeds alone where records hold no references (another test set may say otherwise)"
        )
    if any(not difference.num_pairs for difference in found.differences):
        kinds.append("where no seed is shared, over independent seeds (Welch's t-test)")
    return ", ".join(kinds) or "one shared seed allows no test"


def item_lines(found: ItemChanges) -> list[str]:
    """How the answers to single items differ between two arms."""
    name = found.arms[0] if found.arms[0] == found.arms[1] else f"{found.arms[0]} -> {found.arms[1]}"
    lines = [
        f"{name}: {found.num_changed} of {found.num_items} items of {found.domain} have another output, "
        f"{found.changes.num_better} better, {found.changes.num_worse} worse (over {len(found.seeds)} shared seeds)"
    ]
    return lines


def example_lines(kind: str, examples: Sequence[Example]) -> list[str]:
    """Items with what either side made of them."""
    lines = []
    for example in examples:
        lines.append(f"  {kind} {example.key}: {example.shown!r}")
        for side, output in (("A", example.before), ("B", example.after)):
            text = "".join(piece.hypothesis for piece in output.pieces)
            answers = ", ".join(f"{answer} x{count}" for answer, count in output.answers.items())
            lines.append(f"      {side}: {answers or repr(text)} (error {100 * output.error:.0f} %)")
    return lines


def print_terminal(found: SideBySide, num_items: int) -> None:
    """Print the comparison as a grid; in a pipe it is as wide as it needs to be."""
    console = open_console()
    rows: list[tuple[str, ...] | None] = []
    previous = None
    for difference in found.differences:
        if previous is not None and difference.arms != previous:
            rows.append(None)
        previous = difference.arms
        rows.append(difference_row(difference))
    console.print(make_grid(HEADERS, rows, f"A: {found.first}   B: {found.second}", right=HEADERS[2:-1]))
    for note in notes_of(found):
        console.print(f"  {escape(note)}", highlight=False)
    for changes in found.items:
        lines = item_lines(changes)
        lines += example_lines("better", changes.changes.better[:num_items])
        lines += example_lines("worse", changes.changes.worse[:num_items])
        for line in lines:
            console.print(f"  {escape(line)}", highlight=False)


def print_markdown(found: SideBySide) -> None:
    """Print the comparison as a Markdown table with notes."""
    print("| " + " | ".join(HEADERS) + " |")
    print("| :--- | :--- |" + " ---: |" * (len(HEADERS) - 3) + " :--- |")
    for difference in found.differences:
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in difference_row(difference)) + " |")
    print()
    for note in notes_of(found):
        print(f"- {note}")
    for changes in found.items:
        print(f"- {' '.join(line.strip() for line in item_lines(changes))}")
