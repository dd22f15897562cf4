"""The command `harness sync`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import UserError


def sync_command(names: Sequence[str], results: Path, quiet: bool) -> None:
    """Send the finished records of experiments and sweeps to W&B; all of them when no name is given.

    Raises:
        UserError: nobody is logged in, or there are no such results.
        TrialError: W&B failed; the next call goes on.
    """
    from harness.tracking.client import is_logged_in
    from harness.tracking.local_runs import find_names
    from harness.tracking.sync import sync_results

    if not is_logged_in():
        raise UserError("harness sync needs a W&B login: run `wandb login`, or set WANDB_API_KEY")
    known = find_names(results)
    if not known:
        raise UserError(f"{results}: no results to send")
    for name in names:
        if name not in known:
            raise UserError(f"no results of {name!r} in {results}; choices: {', '.join(known)}")
    for name in names or known:
        report = sync_results(results, name, (lambda line: None) if quiet else (lambda line: print(line, flush=True)))
        waits = f", {report.num_unknown} wait for the search to end" if report.num_unknown else ""
        print(f"{name}: {report.num_sent} sent, {report.num_known} already there{waits}", flush=True)
