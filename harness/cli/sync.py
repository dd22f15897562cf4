"""The command `harness sync`."""

from __future__ import annotations

from typing import Annotated

from harness.cli.options import RESULTS, Quiet, Results, name_argument
from harness.errors import UserError, must_be_in


def sync(
    names: Annotated[list[str] | None, name_argument("Experiments or sweeps; all when left out.")] = None,
    results: Results = RESULTS,
    quiet: Quiet = False,
) -> None:
    """Send the local records to W&B. Sending them again makes no duplicates."""
    from harness.tracking.client import is_logged_in
    from harness.tracking.local_runs import find_names
    from harness.tracking.sync import sync_results

    if not is_logged_in():
        raise UserError("sync needs a W&B login: run `wandb login`, or set WANDB_API_KEY")
    known = find_names(results)
    if not known:
        raise UserError(f"{results}: there are no results to send; nothing has been run there")
    for name in names or []:
        must_be_in(name, known, f"no results of {name!r} in {results}")
    for name in names or known:
        report = sync_results(results, name, (lambda line: None) if quiet else (lambda line: print(line, flush=True)))
        waits = f", {report.num_unknown} wait for the search to end" if report.num_unknown else ""
        print(f"{name}: {report.num_sent} sent, {report.num_known} already there{waits}", flush=True)
