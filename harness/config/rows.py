"""What a row of a table is: an arm and, where a sweep's rules chose several winners of it, those that chose this one.

The name of a row is made here alone. No code takes a name apart: `find_rows` finds the rows that a name means.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Rule = Literal["best", "constrained", "one_se"]


@dataclass(frozen=True)
class RowId:
    """An arm, and the rules that chose this winner of it: none where an arm has one row alone."""

    arm: str
    rules: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`residual_add`, or `residual_add (best, one_se)`."""
        return f"{self.arm} ({', '.join(self.rules)})" if self.rules else self.arm

    @property
    def other_names(self) -> set[str]:
        """What else may mean this row: its arm, and its arm with one of its rules."""
        return {self.arm, *(RowId(self.arm, (rule,)).name for rule in self.rules)}


def find_rows(name: str, rows: Iterable[RowId]) -> list[str]:
    """The names of the rows that a name means, in their order: the row of that name, or those that it may mean.

    `residual_add` means every row of that arm, `residual_add (best)` the row of the winner that this rule chose, which
    other rules may have chosen as well.
    """
    known = list(rows)
    if any(row.name == name for row in known):
        return [name]
    return [row.name for row in known if name in row.other_names]


def merge_rules(arm: str, chosen: Mapping[str, int]) -> dict[int, RowId]:
    """Winner -> its row. Rules that chose the same winner share a row; where there is one rule, none is named.

    Args:
        chosen: rule -> number of the winner.
    """
    rules: dict[int, list[str]] = {}
    for rule, winner in chosen.items():
        rules.setdefault(winner, []).append(rule)
    return {winner: RowId(arm, tuple(named) if len(chosen) > 1 else ()) for winner, named in rules.items()}


def possible_rows(arms: Sequence[str], searched: Sequence[str], rules: Sequence[str]) -> list[RowId]:
    """The rows of a sweep before its winners are known: one for each rule of a searched arm."""
    rows = []
    for arm in arms:
        named = rules if arm in searched and len(rules) > 1 else ()
        rows += [RowId(arm, (rule,)) for rule in named] or [RowId(arm)]
    return rows


def clash_of(arms: Sequence[str], searched: Sequence[str], rules: Sequence[str]) -> tuple[str, str] | None:
    """An arm whose name a row of another arm might get, and that other arm; None where there is none."""
    sets = [named for count in range(1, len(rules) + 1) for named in itertools.combinations(rules, count)]
    for other in searched if len(rules) > 1 else ():
        for named in sets:
            if (name := RowId(other, named).name) in arms:
                return name, other
    return None


_ANY_RULE = "|".join(get_args(Rule))
_OLD_NAME = re.compile(rf"(?P<arm>.+) \((?P<rules>(?:{_ANY_RULE})(?:, (?:{_ANY_RULE}))*)\)")


def row_of_old_name(name: str) -> RowId:
    """The row that a name means in an old manifest, which has names alone."""
    found = _OLD_NAME.fullmatch(name)
    return RowId(name) if found is None else RowId(found["arm"], tuple(found["rules"].split(", ")))
