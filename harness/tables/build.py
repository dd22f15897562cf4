"""From records to a table: arms as rows, metrics as columns, mean and sample standard deviation over seeds.

A cell is never a bare number: it knows how many seeds it stands on, and the table's footnotes say what is missing,
what failed, and what a reader must know of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.errors import UserError
from harness.metrics import METRICS
from harness.records.schema import Manifest, Record
from harness.records.store import RecordStore

_COMMON = ("forgetting", "constrained_score", "trainable_share")
DEFAULT_METRICS = {
    "text": ("target_macro_f1", "target_accuracy", "source_macro_f1", *_COMMON),
    "speech": ("target_cer", "target_wer", "source_cer", *_COMMON),
}
NO_BEST = {"trainable_parameters", "trainable_share", "seconds", "peak_memory_mb", "best_epoch"}  # costs, not scores


@dataclass(frozen=True)
class Cell:
    """Mean and sample standard deviation (n - 1) over `count` seeds, in the column's unit; sd is None for one seed."""

    mean: float
    sd: float | None
    count: int
    best: bool = False


@dataclass(frozen=True)
class Column:
    """A metric's column."""

    metric: str
    header: str
    decimals: int


@dataclass(frozen=True)
class Table:
    """Rows by arm; `cells[arm][metric]` is None where there is no finished trial."""

    title: str
    columns: tuple[Column, ...]
    cells: dict[str, dict[str, Cell | None]]
    footnotes: tuple[str, ...]


def load_frame(store: RecordStore, manifest: Manifest) -> pd.DataFrame:
    """One row a planned trial: arm, seed, trial_id, state, and every metric and cost as a column (fractions)."""
    rows: list[dict[str, Any]] = []
    for arm, seeds in manifest.arms.items():
        for seed, trial_id in seeds.items():
            row: dict[str, Any] = {"arm": arm, "seed": seed, "trial_id": trial_id, "state": "missing", "reason": None}
            summary = store.trial(trial_id).summary()
            if summary is not None:
                row |= {"state": summary.state.value, "reason": summary.reason, "best_epoch": summary.best_epoch}
                if summary.state == "complete":
                    row |= summary.metrics | summary.costs
            rows.append(row)
    return pd.DataFrame(rows)


def load_records(store: RecordStore, manifest: Manifest) -> dict[str, Record]:
    """The finished records of an experiment, by trial id."""
    found = (store.trial(trial_id).record() for seeds in manifest.arms.values() for trial_id in seeds.values())
    return {record.trial_id: record for record in found if record is not None}


def build_table(store: RecordStore, metrics: tuple[str, ...] | None = None) -> Table:
    """Build an experiment's table from its records.

    Args:
        metrics: the columns; None takes the experiment's own, or its family's default.

    Raises:
        UserError: no such experiment, no finished trial, or an unknown metric (the choices are named).
    """
    manifest = store.manifest()
    frame = load_frame(store, manifest)
    finished = frame[frame["state"] == "complete"]
    if finished.empty:
        raise UserError(f"{store.path}: no trial of {store.name} is finished, so there is nothing to tabulate")
    chosen = metrics or tuple(manifest.table.get("metrics") or ()) or default_metrics(finished)
    for metric in chosen:
        if metric not in METRICS or metric not in finished:
            choices = ", ".join(name for name in METRICS if name in finished)
            raise UserError(f"table: no metric {metric!r} in the records of {store.name}; choices: {choices}")
    columns = tuple(make_column(metric, finished[metric].mean()) for metric in chosen)
    cells = {arm: {c.metric: make_cell(finished, arm, c) for c in columns} for arm in manifest.arms}
    mark_best(cells, columns)
    title = " ".join(str(manifest.table.get("title") or manifest.description or manifest.name).split())
    notes = (*footnotes(frame, load_records(store, manifest)), *uneven_cells(cells), *manifest.notes)
    return Table(title, columns, cells, notes)


def default_metrics(finished: pd.DataFrame) -> tuple[str, ...]:
    """The family's columns."""
    family = "speech" if "target_cer" in finished and finished["target_cer"].notna().any() else "text"
    return DEFAULT_METRICS[family]


def make_column(metric: str, typical: float) -> Column:
    """A column with its header: name, direction of better, unit."""
    info = METRICS[metric]
    arrow = "" if metric in NO_BEST else {"higher": " ↑", "lower": " ↓"}[info.direction]
    unit = f" ({info.unit})" if info.unit else ""
    decimals = 0 if not info.unit or info.unit == "MB" else 1
    if metric == "trainable_share" and typical < 0.1:
        decimals = 2
    return Column(metric, f"{metric.replace('_', ' ')}{unit}{arrow}", decimals)


def make_cell(finished: pd.DataFrame, arm: str, column: Column) -> Cell | None:
    """One cell, in the column's unit."""
    scale = 100.0 if METRICS[column.metric].unit in ("%", "points") else 1.0
    values = finished.loc[finished["arm"] == arm, column.metric].dropna() * scale
    if values.empty:
        return None
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    return Cell(float(values.mean()), sd, len(values))


def mark_best(cells: dict[str, dict[str, Cell | None]], columns: tuple[Column, ...]) -> None:
    """Mark the best mean of each score's column; equal printed values are all best."""
    for column in columns:
        present = {arm: row[column.metric] for arm, row in cells.items() if row[column.metric] is not None}
        if column.metric in NO_BEST or len(present) < 2:
            continue
        shown = {arm: round(cell.mean, column.decimals) for arm, cell in present.items() if cell is not None}
        pick = max if METRICS[column.metric].direction == "higher" else min
        best = pick(shown.values())
        for arm, cell in present.items():
            if cell is not None and shown[arm] == best:
                cells[arm][column.metric] = Cell(cell.mean, cell.sd, cell.count, best=True)


def footnotes(frame: pd.DataFrame, records: dict[str, Record]) -> tuple[str, ...]:
    """What a reader must know: seeds, what is missing or failed, notes of the data, mixed fingerprints."""
    finished = frame[frame["state"] == "complete"]
    counts = finished.groupby("arm", sort=False).size()
    planned = frame.groupby("arm", sort=False).size()
    if (counts.reindex(planned.index, fill_value=0) == planned).all() and counts.nunique() == 1:
        num = int(counts.iloc[0])
        notes = [f"mean ± sample sd over n = {num} seeds" if num > 1 else "n = 1 seed, so no spread"]
    else:
        notes = ["mean ± sample sd over the finished seeds (n)"]
    for arm, rows in frame[frame["state"] != "complete"].groupby("arm", sort=False):
        states = rows["state"] + rows["reason"].map(lambda reason: f" ({reason})" if isinstance(reason, str) else "")
        what = "; ".join(
            f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))} {state}"
            for state, seeds in rows.groupby(states, sort=False)["seed"]
        )
        notes.append(f"{arm}: n = {int(counts.get(arm, 0))} of {planned[arm]}: {what}")
    complete = [record for record in records.values() if record.summary.state == "complete"]
    notes += sorted({note for record in complete for note in record.summary.notes})
    for field in ("corpus_fingerprint", "backbone_fingerprint"):
        found = {getattr(record.provenance, field) for record in complete if record.provenance is not None}
        if len(found) > 1:
            notes.append(f"MIXED RECORDS: {len(found)} different values of {field}")
    return tuple(notes)


def uneven_cells(cells: dict[str, dict[str, Cell | None]]) -> tuple[str, ...]:
    """A note for each cell that stands on fewer seeds than its row says: some records lack the metric."""
    notes = []
    for arm, row in cells.items():
        counts = {metric: 0 if cell is None else cell.count for metric, cell in row.items()}
        most = max(counts.values(), default=0)
        notes += [f"{arm}: {metric} is in {n} of {most} records" for metric, n in counts.items() if n < most]
    return tuple(notes)
