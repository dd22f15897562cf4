"""The command `harness table`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import RESULTS, Metrics, Results, name_argument, split_list
from harness.errors import UserError, must_be_in
from harness.tables.render.formats import FORMATS, STANDALONE, format_for, render


def table(
    names: Annotated[list[str], name_argument("Experiments by name, or one table: its file (YAML) or shipped name.")],
    results: Results = RESULTS,
    format: Annotated[
        str | None, typer.Option(help=f"{', '.join(FORMATS)}; by default as --out ends, else terminal.")
    ] = None,
    metrics: Metrics = None,
    spec: Annotated[
        Path | None,
        typer.Option(help="Take the table's settings from this file (or shipped name), not from the experiment."),
    ] = None,
    layout: Annotated[str | None, typer.Option(help="A named layout, instead of the one in the settings.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    standalone: Annotated[
        bool, typer.Option("--standalone", help=f"Write a whole document (format {', '.join(STANDALONE)}).")
    ] = False,
    explain: Annotated[
        tuple[str, str] | None, typer.Option(metavar="ROW COLUMN", help="List the trials behind a cell, not the table.")
    ] = None,
) -> None:
    """Print the table of experiments from their records."""
    if explain is not None and (format is not None or out is not None or standalone):
        raise UserError(
            "--explain prints the trials behind a cell, and no table: give no --format, --out, --standalone"
        )
    chosen = format_for(format, None if out is None else out.name)
    if standalone:
        must_be_in(chosen, STANDALONE, f"--standalone: {chosen} has no document of its own")
    from harness.api.results import table as make_table

    columns = None if metrics is None else split_list(metrics, "--metrics")
    made = make_table(*names, results=results, metrics=columns, settings=spec, layout=layout).model
    if explain is not None:
        from harness.cli.views.explain import print_explanation

        print_explanation(made, *explain, results)
    elif chosen == "terminal" and out is None:
        from harness.tables.render.terminal import print_terminal

        print_terminal(made)  # with colours, and folded to the width of a terminal
    elif out is None:
        print(render(made, chosen, standalone), end="")
    else:
        from harness.disk import write_atomically

        write_atomically(out, render(made, chosen, standalone).encode())
