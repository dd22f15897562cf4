"""What the footnotes of a table say of its tests and intervals."""

from __future__ import annotations

from collections.abc import Sequence

from harness.tables.model import Comparison

ALONE = "over seeds alone"


def over_what(known: Sequence[bool]) -> str:
    """Over what tests or intervals are, and so what they are about: other seeds, and other test items where known.

    Args:
        known: for each of them, whether the error over test items is known.
    """
    if known and all(known):
        return "over seeds and test items"
    return "over seeds, and over test items where the records hold their references" if any(known) else ALONE


def star_note(against: str, comparisons: Sequence[Comparison], num_tests: int, alpha: float) -> str:
    """What the star means, or that there is none.

    Args:
        against: what the differences are from.
    """
    known = [comparison.item_error is not None for comparison in comparisons if comparison.p is not None]
    over = over_what(known)
    correction = f", Holm-corrected over the {num_tests} distinct tests of this table" if num_tests > 1 else ""
    marked = any(comparison.verdict != "unclear" for comparison in comparisons)
    start = "*: significantly different from" if marked else "no value differs significantly from"
    text = f"{start} {against} (at {100 * alpha:g} % {over}{correction})"
    if over == ALONE:
        text += (
            "; the records hold no references of the test items (or all items are of one group), so another test set "
            "may give other marks"
        )
    return text
