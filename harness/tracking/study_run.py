"""The study-level W&B run: space, frozen hyperparameters, the ablation table, the search's points, the figures.

One run a sweep, under an id of its own. When the sweep goes on, a new version is added to the same run; the same
content is not added twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config.base import content_hash
from harness.records.search import SearchResult
from harness.tables.format import Formatter
from harness.tables.model import Table
from harness.tracking.client import CONTENT, SERVER, call_bounded, describe_error, import_wandb, open_run

TIMEOUT_S = 60.0  # for the whole run: figures are files, and take longer than numbers

Rows = tuple[list[str], list[list[Any]]]  # column names, and rows


@dataclass(frozen=True)
class Study:
    """What the study-level run shows."""

    name: str
    config: Mapping[str, Any]
    tables: Mapping[str, Rows]
    figures: Mapping[str, Path] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        return f"study-{content_hash({'name': self.name, 'kind': 'study'})}"

    @property
    def content(self) -> str:
        """The hash of everything that is shown."""
        hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.figures.items()}
        return content_hash([self.name, dict(self.config), dict(self.tables), hashes], length=16)


def make_study(
    name: str,
    space: Any,
    result: SearchResult | None,
    table: Table | None,
    figures: Sequence[Path],
    frozen: Mapping[str, Any],
) -> Study:
    """Gather what the run shows."""
    tables = {} if table is None else {"ablation": ablation_rows(table)}
    if result is not None:
        tables["search"] = search_rows(result)
    config = {"experiment": name, "space": space, "frozen": dict(frozen)}
    # Through JSON, as the record's reader sees it: `harness sync` must come to the same hash.
    return Study(name, json.loads(json.dumps(config)), tables, {path.stem: path for path in sorted(figures)})


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
            line += [cell.value, cell.sd, formatter.cell(cell, column).around("*{}", "{}", "")]
        rows.append(line)
    return names, rows


def search_rows(result: SearchResult) -> Rows:
    """One row a point: arm, number, state, epochs, seconds, objectives, every searched setting."""
    keys = list(dict.fromkeys(axis.key for axes in result.axes.values() for axis in axes))
    objectives = [objective.metric for objective in result.objectives]
    names = ["arm", "number", "state", "reason", "feasible", "epochs", "seconds", *objectives, *keys]
    rows: list[list[Any]] = []
    for point in result.points:
        values = point.values or (None,) * len(objectives)
        about = [point.arm, point.number, point.state, point.reason, point.feasible, point.epochs, point.seconds]
        rows.append([*about, *values, *(point.params.get(key) for key in keys)])
    return names, rows


def send_study(study: Study, directory: Path, mode: str, run_id: str | None = None) -> None:
    """Open the study's run, add what it shows (unless it shows just that already), close it."""
    wandb = import_wandb()
    run = open_run(
        run_id or study.run_id,
        directory,
        mode,
        name=study.name,
        group=study.name,
        job_type="study",
        tags=[],
        config=study.config,
    )
    content = study.content
    if run.summary.get(CONTENT) != content:
        run.config.update(dict(study.config), allow_val_change=True)
        shown: dict[str, Any] = {
            name: wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
            for name, (columns, rows) in study.tables.items()
        }
        shown |= {f"figures/{name}": wandb.Image(str(path)) for name, path in study.figures.items()}
        run.log(shown)
        run.summary["state"] = "complete"
        run.summary[CONTENT] = content
        run.tags = ("complete",)
    run.finish(exit_code=0)


def log_study(
    store_path: Path,
    mode: str,
    *,
    name: str,
    space: Any,
    result: SearchResult | None,
    table: Table | None,
    figures: Sequence[Path],
    frozen: Mapping[str, Any],
    complain: Callable[[str], None] = print,
) -> None:
    """Show a study on W&B; whatever fails is one line through `complain`.

    Args:
        store_path: `results/NAME`; wandb keeps its files in `store_path/wandb`.
        mode: "offline", "online" or "disabled".
        space: the sweep's space as JSON.
        figures: PNG files.
        frozen: frozen.json's content, or any part of it.
    """
    wanted = SERVER.mode(mode)
    try:
        study = make_study(name, space, result, table, figures, frozen)
        call_bounded(lambda: send_study(study, store_path.absolute(), wanted), TIMEOUT_S)
    # wandb may raise anything (network, disk, its own bugs), and the study's results are on disk already.
    except Exception as error:
        if wanted == "online":
            SERVER.give_up()
        complain(
            f"wandb failed: {describe_error(error)}; the study's files are complete; `harness sync {name}` sends it"
        )
