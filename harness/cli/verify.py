"""The command `harness verify`."""

from __future__ import annotations

from pathlib import Path

from harness.checks.verify import Verification, verify
from harness.cli.run import add_user_code
from harness.errors import TrialError, UserError


def verify_command(name: str, results: Path, retrain: bool, cell: str | None, tolerance: float) -> None:
    """Check a published table, its records, and (for a sweep) its winners; train one trial again when asked.

    Raises:
        UserError: nothing under this name, or no such cell.
        TrialError: something drifted (reason `drift`); every drift has been printed with its cell.
    """
    if cell is not None and not retrain:
        raise UserError("--cell names the trial that --retrain trains again; add --retrain")
    found = verify(results, name)
    print_findings(found)
    drifts = [str(drift) for drift in found.findings.drifts]
    if retrain:
        from harness.checks.retraining import choose_trial, retrain_trial  # loads torch

        add_user_code(Path(name))
        place, record = choose_trial(results, name, cell)
        print(f"retraining {place.record} ...", flush=True)
        again = retrain_trial(place, record, tolerance)
        for line in again.report:
            print(f"  {line}")
        drifts += again.drifts
    if drifts:
        more = f" (and {len(drifts) - 1} more)" if len(drifts) > 1 else ""
        raise TrialError("drift", f"{name}: drift: {drifts[0]}{more}")
    print(f"{name}: verified")


def print_findings(found: Verification) -> None:
    """What held, what drifted, what was not checked."""
    if found.num_records:
        print(f"{found.name}: {found.num_records} records, {found.num_arms} rows")
    for what, count in found.findings.held.items():
        print(f"  held         {count:6,}  {what}")
    for reason in found.findings.unchecked:
        print(f"  not checked          {reason}")
    for drift in found.findings.drifts:
        print(f"  DRIFT                {drift}")
