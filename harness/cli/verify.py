"""The command `harness verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import RESULTS, Name, Results
from harness.errors import TrialError, UserError

if TYPE_CHECKING:
    from harness.checks.verify import Verification


def verify(
    name: Name,
    results: Results = RESULTS,
    retrain: Annotated[
        bool,
        typer.Option(
            "--retrain", help="Also train one of its trials again, which runs the code that it names, and compare."
        ),
    ] = False,
    cell: Annotated[
        str | None,
        typer.Option(metavar="ROW[/SEED]", help="Which trial --retrain trains; harness picks one if left out."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Largest score difference of --retrain where packages or processors differ.")
    ] = 0.02,
) -> None:
    """Recompute a published table from its records. The records' scores are recomputed from their predictions."""
    if cell is not None and not retrain:
        raise UserError("--cell names the trial that --retrain trains again; add --retrain")
    from harness.checks.verify import verify

    found = verify(results, name)
    print_findings(found)
    drifts = [str(drift) for drift in found.findings.drifts]
    if retrain:
        from harness.api.inputs import add_user_code
        from harness.checks.retraining import choose_trial, retrain_trial  # loads torch
        from harness.records.provenance import user_modules

        add_user_code(Path(name))
        place, record = choose_trial(results, name, cell)
        own = user_modules(record.config)
        runs = f", which runs code of {', '.join(own)}" if own else ""
        print(f"retraining {place.record}{runs} ...", flush=True)
        again = retrain_trial(place, record, tolerance)
        for line in again.report:
            print(f"  {line}")
        drifts += again.drifts
    if drifts:
        more = f" (and {len(drifts) - 1} more)" if len(drifts) > 1 else ""
        raise TrialError("drift", f"{name}: drift: {drifts[0]}{more}")
    print(f"{name}: verified")


def print_findings(found: Verification) -> None:
    """Print what holds, what could not be checked, and what differs."""
    if found.num_records:
        print(f"{found.name}: {found.num_records} records, {found.num_arms} rows")
    for launch in found.launches:
        num_trials = sum(map(len, launch.arms.values()))
        done = "" if launch.num_finished is None else f", {launch.num_finished} of them finished by then"
        print(f"  launched             {launch.at or 'at a time that is not known'}: {num_trials} trials{done}")
    for version, count in found.versions:
        print(f"  made by              {version}: {count} record{'s' if count > 1 else ''}")
    for what, count in found.findings.held.items():
        print(f"  held         {count:6,}  {what}")
    for reason in found.findings.unchecked:
        print(f"  not checked          {reason}")
    for drift in found.findings.drifts:
        print(f"  DRIFT                {drift}")
    if found.digest is not None:
        print(f"  digest               {found.digest}")
