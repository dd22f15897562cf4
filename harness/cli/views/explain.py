"""`harness table NAME --explain ROW COLUMN`: the trials behind a cell, and the command that repeats one of them."""

from __future__ import annotations

import shlex
from pathlib import Path

from harness.cli.printing import print_aligned
from harness.config.shipped import shipped_files
from harness.errors import UserError
from harness.tables.explain import Explanation, Run, explain
from harness.tables.model import Table


def print_explanation(table: Table, row: str, column: str, results: Path) -> None:
    """Print a cell's runs.

    Raises:
        UserError: no such row or column, or nothing behind the cell.
    """
    found = explain(table, row, column, results)
    print(f"{found.row.id} x {found.column.id}: {cell_text(found)}")
    compared = found.cell.comparison
    if compared is not None and compared.p is not None:
        adjusted = "" if compared.p_adjusted is None else f", corrected for the table (Holm) {compared.p_adjusted:.3g}"
        ends, range = compared.interval, ""
        if ends is not None:
            range = f" ({100 * ends.level:g} % interval {ends.low:+.4g} to {ends.high:+.4g})"
        print(
            f"compared with {compared.baseline}: {compared.difference:+.4g} over {compared.num_pairs} shared seeds"
            f"{range}, p {compared.p:.3g}{adjusted}"
        )
    rows = [("trial", "arm", "seed", "value", "state", "commit", "record"), *(run_texts(run) for run in found.runs)]
    print_aligned(rows, indent="  ")
    if found.first is not None:
        print("To train one of them again and compare:")
        for command in commands(found.first, results):
            print(f"  {command}")


def cell_text(found: Explanation) -> str:
    """The cell in full precision."""
    cell, unit = found.cell, found.column.unit
    if cell.value is None:
        return cell.text or "nothing measured"
    sd = f", sd {cell.sd:.6g}" if cell.sd is not None else ""
    mean = "mean " if cell.num_seeds > 1 else ""
    return f"{mean}{cell.value:.6g}{f' {unit}' if unit else ''}{sd}, n = {cell.num_seeds}"


def run_texts(run: Run) -> tuple[str, ...]:
    """A run as a line of the listing."""
    value = "–" if run.value is None else f"{run.value:.6g}"
    return (run.trial.trial_id, run.trial.arm, str(run.trial.seed), value, run.state, run.commit, run.place)


def commands(run: Run, results: Path) -> list[str]:
    """The commands that repeat a run: from its record, and from the experiment file if that still has this trial."""
    trial = run.trial
    if trial.phase == "search":
        return [f"(a trial of the search; its config is in {run.place})"]
    where = [] if results == Path("results") else ["--results", str(results)]
    cell = f"{trial.arm}/{trial.seed}"
    found = [shlex.join(["harness", "verify", trial.experiment, "--retrain", "--cell", cell, *where])]
    own, shipped = Path("experiments") / f"{trial.experiment}.yaml", shipped_files("experiment")
    path = own if own.is_file() else shipped.get(trial.experiment)
    if path is not None and _gives(path, trial.arm, trial.seed, trial.trial_id):
        file = str(own) if path == own else trial.experiment
        only = ["--arm", trial.arm, "--seed", str(trial.seed), "--results", "elsewhere"]
        found.append(shlex.join(["harness", "run", file, *only]))
    return found


def _gives(path: Path, arm: str, seed: int, trial_id: str) -> bool:
    """Whether an experiment file has the trial, unchanged."""
    from harness.config.experiment import load_experiment

    try:
        trials = load_experiment(path).trials
    except UserError:
        return False
    return any((t.arm, t.seed, t.config.trial_id) == (arm, seed, trial_id) for t in trials)
