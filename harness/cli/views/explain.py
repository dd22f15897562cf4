"""`harness table NAME --explain ROW COLUMN`: the trials behind a cell, and the command that repeats one of them."""

from __future__ import annotations

import shlex
from pathlib import Path

from harness.cli.printing import print_aligned
from harness.config.shipped import shipped_files
from harness.errors import UserError
from harness.tables.explain import Explanation, Run, explain
from harness.tables.model import Comparison, Table

UNTESTED = {
    "one_pair": "one seed shows no spread",
    "identical": "equal on every seed",
    "constant": "every seed gives the same difference, which says nothing of its error",
    "no_pair": "no seed in common",
    "not_tested": "the score is cut off, and mostly the same number",
}


def print_explanation(table: Table, row: str, column: str, results: Path) -> None:
    """Print a cell's runs.

    Raises:
        UserError: no such row or column, or nothing behind the cell.
    """
    found = explain(table, row, column, results)
    print(f"{found.row.id} x {found.column.id}: {cell_text(found)}")
    if found.cell.comparison is not None:
        print(comparison_text(found.cell.comparison))
    rows = [("trial", "arm", "seed", "value", "state", "commit", "record"), *(run_texts(run) for run in found.runs)]
    print_aligned(rows, indent="  ")
    if found.first is not None:
        print("To train one of them again and compare:")
        for command in commands(found.first, results):
            print(f"  {command}")


def comparison_text(compared: Comparison) -> str:
    """What the cell's mark stands on: the difference, its errors over seeds and over test items, and the test."""
    if compared.difference is None:
        return f"compared with {compared.baseline}: no seed in common"
    text = f"compared with {compared.baseline}: {compared.difference:+.4g}"
    if compared.p is None:
        return f"{text}; not tested: {UNTESTED[compared.why or 'not_tested']}"
    errors = [("seeds", compared.seed_error), ("test items", compared.item_error)]
    known = [f"{error:.3g} over {what}" for what, error in errors if error is not None]
    text += f", standard error {' and '.join(known)}"
    if compared.item_error is None:
        text += " (no references of the test items are recorded, or all items are of one group)"
    if compared.error is not None:
        text += f", {compared.error:.3g} in all with what the table's other comparisons say of variances"
    if compared.interval is not None:
        ends = compared.interval
        text += f"; {100 * ends.level:g} % interval {ends.low:+.4g} to {ends.high:+.4g}"
    pairs = f"{compared.num_pairs} shared seeds" if compared.num_pairs > 1 else "one run each"
    text += f"; p {compared.p:.3g} from {pairs}"
    if compared.p_adjusted is not None:
        text += f", corrected for the table (Holm) {compared.p_adjusted:.3g}"
    return text


def cell_text(found: Explanation) -> str:
    """The cell in full precision."""
    cell, unit = found.cell, found.column.unit
    if cell.value is None:
        return cell.text or "nothing measured"
    sd = f", sd {cell.sd:.6g}" if cell.sd is not None else ""
    items = f", standard error over test items {cell.item_error:.3g}" if cell.item_error is not None else ""
    mean = "mean " if cell.num_seeds > 1 else ""
    fixed = " (no seed changes it)" if cell.deterministic else ""
    return f"{mean}{cell.value:.6g}{f' {unit}' if unit else ''}{sd}{items}, n = {cell.num_seeds}{fixed}"


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
