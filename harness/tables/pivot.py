"""Sort trials into the cells of a table, and refuse a cell that would hold one seed twice.

With rows: target and columns: arm, a trial of arm `frozen` on target `ro` has the row key ("ro",) and the column key
("frozen",); all trials with these two keys, one a seed, are one cell:

              frozen            full
        ro    seeds 0, 1, 2     seeds 0, 1, 2
        cs    seeds 0, 1, 2     (none planned)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.table import TableSettings
from harness.config.trees import MISSING
from harness.errors import UserError
from harness.tables.load import DIMENSIONS, Loaded, LoadedTrial
from harness.tables.select import Siblings

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Pivot:
    """The trials of each cell, by row and column key; the keys in the order of the table.

    `left_out`: arm -> the setting of the rows or columns that it lacks, so that it stands in no cell.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_keys: tuple[Key, ...]
    column_keys: tuple[Key, ...]
    cells: dict[tuple[Key, Key], tuple[LoadedTrial, ...]]
    left_out: dict[str, str]

    def trials(self, row: Key, column: Key) -> tuple[LoadedTrial, ...]:
        """The planned trials of a cell; empty where none was planned."""
        return self.cells.get((row, column), ())

    def row_trials(self, row: Key) -> tuple[LoadedTrial, ...]:
        """The planned trials of a row."""
        return tuple(trial for column in self.column_keys for trial in self.trials(row, column))

    def arm_of(self, row: Key, column: Key) -> str | None:
        """The arm of a cell, where arms are rows or columns."""
        if "arm" in self.rows:
            return str(row[self.rows.index("arm")])
        return str(column[self.columns.index("arm")]) if "arm" in self.columns else None

    def has_finished(self, arm: str, row: Key, column: Key) -> bool:
        """Whether an arm has a finished trial where the arm of a cell has its own."""
        keys = [
            tuple(arm if name == "arm" else part for name, part in zip(names, key, strict=True))
            for names, key in ((self.rows, row), (self.columns, column))
        ]
        return any(trial.complete for trial in self.trials(keys[0], keys[1]))

    def without_arm(self, row: Key, column: Key) -> Key:
        """A cell's keys without its arm. Cells that agree in these are compared with each other."""
        names = (*self.rows, *self.columns)
        return tuple(part for name, part in zip(names, (*row, *column), strict=True) if name != "arm")


def make_pivot(trials: Sequence[LoadedTrial], settings: TableSettings, loaded: Loaded) -> Pivot:
    """Sort trials into cells.

    Raises:
        UserError: nothing is selected, an unknown setting, or a cell would hold one seed twice.
    """
    rows, columns = settings.rows, settings.columns
    if len(loaded.manifests) > 1 and not {"experiment", "target"} & {*rows, *columns}:
        columns = ("experiment", *columns)
    siblings = Siblings(trials)
    cells: dict[tuple[Key, Key], list[LoadedTrial]] = {}
    left_out: dict[str, str] = {}
    for trial in trials:
        key = {name: siblings.coordinate(trial, name) for name in (*rows, *columns)}
        lacking = next((name for name, value in key.items() if value is MISSING), None)
        if lacking is not None:
            left_out[trial.whole_name] = lacking
            continue
        place = tuple(key[name] for name in rows), tuple(key[name] for name in columns)
        cells.setdefault(place, []).append(trial)
    for name in (*rows, *columns):
        if trials and name not in DIMENSIONS and all(lacking == name for lacking in left_out.values()) and not cells:
            raise UserError(f"table: no trial of {loaded.names} has a setting {name!r}; {setting_choices(trials)}")
    if not cells:
        raise UserError(f"table: arms and where leave no trial of {loaded.names} to show")
    for (row, column), members in cells.items():
        _check_one_trial_a_seed(members, (*row, *column), (*rows, *columns))
    order = _size_order(cells) if settings.sort == "size" else None
    row_keys = _ordered([row for row, _ in cells], rows, order)
    column_keys = _ordered([column for _, column in cells], columns, None)
    shown = {trial.whole_name for members in cells.values() for trial in members}
    left_out = {arm: name for arm, name in left_out.items() if arm not in shown}
    return Pivot(rows, columns, row_keys, column_keys, {k: tuple(v) for k, v in cells.items()}, left_out)


def _check_one_trial_a_seed(members: Sequence[LoadedTrial], key: Key, names: Sequence[str]) -> None:
    seeds: dict[int, LoadedTrial] = {}
    for trial in members:
        other = seeds.setdefault(trial.ref.seed, trial)
        if other is trial:
            continue
        where = ", ".join(f"{name} {part}" for name, part in zip(names, key, strict=True))
        both = f"{other.ref.experiment}/{other.ref.arm} and {trial.ref.experiment}/{trial.ref.arm}"
        if (other.ref.experiment, other.ref.arm) == (trial.ref.experiment, trial.ref.arm):
            both += f" ({other.ref.trial_id} and {trial.ref.trial_id})"
        raise UserError(
            f"table: the cell {where} would mix {both} at seed {trial.ref.seed}; "
            "add the setting in which they differ to rows or columns, or select arms"
        )


def _ordered(keys: Sequence[Key], names: Sequence[str], order: dict[Key, float] | None) -> tuple[Key, ...]:
    """The distinct keys in order. Each part of a key is sorted by size if all are numbers, else by first appearance."""
    distinct = list(dict.fromkeys(keys))
    ranks: list[dict[Any, Any]] = []
    for position, _ in enumerate(names):
        parts = list(dict.fromkeys(key[position] for key in distinct))
        if all(isinstance(part, (int, float)) and not isinstance(part, bool) for part in parts):
            parts.sort()
        ranks.append({part: number for number, part in enumerate(parts)})
    by_place = sorted(distinct, key=lambda key: tuple(rank[part] for rank, part in zip(ranks, key, strict=True)))
    return tuple(by_place if order is None else sorted(by_place, key=lambda key: order[key]))


def _size_order(cells: dict[tuple[Key, Key], list[LoadedTrial]]) -> dict[Key, float]:
    """Row -> its number of training examples; rows that train on everything come last."""
    order: dict[Key, float] = {}
    for (row, _), members in cells.items():
        limits = [trial.coordinate("data.train_limit") for trial in members if trial.record is not None]
        sizes = [float("inf") if limit is None or limit is MISSING else float(limit) for limit in limits]
        order[row] = min([order.get(row, float("inf")), *sizes])
    return order


def setting_choices(trials: Sequence[LoadedTrial]) -> str:
    """The dimensions and settings that some trials have, for messages."""
    keys: set[str] = set()
    for trial in trials:
        keys |= set(trial.position)
        if trial.record is not None:
            keys |= _leaf_keys(trial.record.config, "")
    return f"choices: {', '.join([*DIMENSIONS, *sorted(keys)])}"


def _leaf_keys(tree: Any, prefix: str) -> set[str]:
    if not isinstance(tree, dict):
        return {prefix}
    return {leaf for key, item in tree.items() for leaf in _leaf_keys(item, f"{prefix}.{key}" if prefix else key)}
