"""The command `harness export`."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import RESULTS, Name, Results


def export(
    name: Name,
    results: Results = RESULTS,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            help="Where to: a path that ends in .db, the URL of a PostgreSQL or MySQL server, or env:NAME for an "
            "environment variable that holds one. By default what the sweep's file says, or RESULTS/NAME/study.db.",
        ),
    ] = None,
) -> None:
    """Write a sweep's search into a storage of Optuna."""
    from harness.errors import TrialError, UserError, must_be_in
    from harness.search.live_export import export_once
    from harness.sweep.searched import SWEEP_FILE, read_about, told_place

    folder, sweeps = results / name, sorted(path.parent.name for path in results.glob(f"*/{SWEEP_FILE}"))
    if not sweeps:
        raise UserError(f"{results}: no sweep has been run there")
    must_be_in(name, sweeps, f"no sweep {name!r} in {results}")
    done = export_once(folder, storage or told_place(read_about(folder), folder))
    if done is None:
        raise TrialError("busy", f"{folder}: another process is exporting it")
    print(f"{name}: {done.num_trials} trials in {done.place}, {done.num_new} of them new")
