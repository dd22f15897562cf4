"""The command `harness status`: how sweeps and experiments are going, once or until they are finished."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import RESULTS, Results, name_argument


def status(
    name: Annotated[str | None, name_argument("A sweep or an experiment, by its name; all when left out.")] = None,
    results: Results = RESULTS,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Refresh until it is over; into a pipe, a line a change.")
    ] = False,
) -> None:
    """Show how a sweep or an experiment is going.

    Of each arm: what has ended, runs or failed; the best trial; the time that is left.
    """
    from harness.cli.views.status import show_status

    show_status(name, results, watch)
