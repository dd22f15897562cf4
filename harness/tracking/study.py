"""A finished sweep as trackers show it: space, winners, the ablation table, the search's points, the figures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config.base import content_hash
from harness.records.frozen import read_frozen
from harness.records.search import SearchResult, read_search
from harness.records.store import MANIFEST, RecordStore
from harness.tables.format import Formatter
from harness.tables.model import Table

Rows = tuple[list[str], list[list[Any]]]  # column names, and rows


@dataclass(frozen=True)
class Study:
    """A finished sweep as it is shown.

    Attributes:
        run_id: stays when the sweep goes on.
        content: the hash of everything that is shown.
    """

    name: str
    config: Mapping[str, Any]
    tables: Mapping[str, Rows]
    figures: Mapping[str, Path] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        return f"study-{content_hash({'name': self.name, 'kind': 'study'})}"

    @property
    def title(self) -> str:
        return "study"

    @property
    def content(self) -> str:
        hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.figures.items()}
        return content_hash([self.name, dict(self.config), dict(self.tables), hashes], length=16)


def read_study(results: Path, name: str) -> Study | None:
    """Read a sweep whose winners are chosen; None for an experiment, or before that.

    Raises:
        UserError: a file is corrupt.
    """
    from harness.tables.build import build_table  # a process that follows an experiment never needs it
    from harness.tables.load import any_finished

    path = results / name
    result = read_search(path)
    frozen, store = read_frozen(path), RecordStore(results, name)
    if result is None or frozen is None or not (path / MANIFEST).exists():
        return None
    tables = {"ablation": ablation_rows(build_table(store))} if any_finished(store) else {}
    tables["search"] = search_rows(result)
    config = {"experiment": name, "space": frozen.get("space"), "frozen": frozen}
    return Study(name, config, tables, {path.stem: path for path in sorted((path / "figures").glob("*.png"))})


def ablation_rows(table: Table) -> Rows:
    """arm, n, then for each metric its mean and sd as numbers and the text that the printed table shows."""
    columns = [column for column in table.columns if column.metric is not None]
    formatter = Formatter(table)
    names = ["arm", "n"]
    for column in columns:
        names += [f"{column.id} mean", f"{column.id} sd", " ".join([*column.groups, column.title])]
    rows: list[list[Any]] = []
    for row in table.rows:
        cells = [row.cells[column.id] for column in columns]
        line: list[Any] = [row.id, max((cell.num_seeds for cell in cells), default=0)]
        for cell, column in zip(cells, columns, strict=True):
            line += [cell.value, cell.sd, formatter.cell(cell, column).plain]
        rows.append(line)
    return names, rows


def search_rows(result: SearchResult) -> Rows:
    """One row a point: arm, number, state, epochs, seconds, objectives, every searched setting.

    Only a complete point was measured against the constraints; whether another one is feasible is not known (None).
    """
    keys = list(dict.fromkeys(axis.key for axes in result.axes.values() for axis in axes))
    objectives = [objective.metric for objective in result.objectives]
    names = ["arm", "number", "state", "reason", "feasible", "epochs", "seconds", *objectives, *keys]
    rows: list[list[Any]] = []
    for point in result.points:
        values = point.values or (None,) * len(objectives)
        feasible = point.feasible if point.state == "complete" else None
        about = [point.arm, point.number, point.state, point.reason, feasible, point.epochs, point.seconds]
        rows.append([*about, *values, *(point.params.get(key) for key in keys)])
    return names, rows
