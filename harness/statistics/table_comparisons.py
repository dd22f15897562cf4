"""Compare a whole table with its baseline, with Holm's correction over all of its tests or those of a column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.statistics.multiplicity import holm, holm_by_group
from harness.statistics.samples import LEVEL
from harness.statistics.seeds import PairedComparison, compare_by_seed

Family = Literal["table", "column"]
Scores = Mapping[str, Mapping[str, Mapping[int, float]]]  # column -> arm -> seed -> value


@dataclass(frozen=True)
class TableComparison:
    """One cell against the baseline's cell in its column, and its p-value after Holm's correction.

    `adjusted_p` is None where no test was possible; `family_size` counts the tests that were corrected together.
    """

    column: str
    arm: str
    paired: PairedComparison
    adjusted_p: float | None
    family_size: int

    def significant(self, alpha: float = 0.05) -> bool:
        """Whether the corrected test rejects "no difference" at `alpha`."""
        return self.adjusted_p is not None and self.adjusted_p <= alpha


def compare_table(
    scores: Scores, baseline: str, family: Family = "table", level: float = LEVEL
) -> dict[tuple[str, str], TableComparison]:
    """Compare every arm of every column with the baseline, seeds paired, corrected for how many tests there are.

    Args:
        scores: column -> arm -> seed -> value, one unit a column. An arm may lack a column, or seeds of it.
        baseline: the arm to compare with.
        family: `table` corrects over all comparisons given (the chance of any false mark in the table is at most
            alpha), `column` within each column (at most alpha a column).

    Returns:
        (column, arm) -> comparison, the baseline left out, in the order given.

    Raises:
        ValueError: a column lacks the baseline, or a value is not finite.
    """
    if family not in ("table", "column"):
        raise ValueError(f"family {family!r}; choices: table, column")
    found: dict[tuple[str, str], PairedComparison] = {}
    for column, arms in scores.items():
        if baseline not in arms:
            raise ValueError(f"column {column!r} has no arm {baseline!r} to compare with; choices: {', '.join(arms)}")
        for arm, values in arms.items():
            if arm != baseline:
                found[column, arm] = compare_by_seed(values, arms[baseline], level)
    p_values = [paired.p_value for paired in found.values()]
    columns = [column for column, _ in found]
    adjusted = holm(p_values) if family == "table" else holm_by_group(p_values, columns)
    tested = [column for column, p in zip(columns, p_values, strict=True) if p is not None]
    return {
        (column, arm): TableComparison(
            column, arm, paired, p, len(tested) if family == "table" else tested.count(column)
        )
        for ((column, arm), paired), p in zip(found.items(), adjusted, strict=True)
    }
