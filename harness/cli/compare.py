"""The command `harness compare`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harness.cli.options import RESULTS, Metrics, Results, name_argument, split_list
from harness.errors import must_be_in

FORMATS = ("terminal", "md", "json")


def compare(
    first: Annotated[
        str, name_argument("An experiment (NAME), one of its arms (NAME:ARM), or a results folder.", metavar="A")
    ],
    second: Annotated[str, name_argument("What it is compared with, written the same way.", metavar="B")],
    results: Results = RESULTS,
    metrics: Metrics = None,
    format: Annotated[str, typer.Option(help="terminal, md or json.")] = "terminal",
    items: Annotated[
        int, typer.Option(min=0, help="Items to show: so many that got better, and so many that got worse.")
    ] = 0,
) -> None:
    """Compare two experiments, results folders or arms. They are paired where seeds and items are shared."""
    must_be_in(format, FORMATS, f"--format {format!r}")
    from harness.checks.compare import compare_sides
    from harness.checks.sides import load_side
    from harness.cli.views.compare import as_json, print_markdown, print_terminal

    found = compare_sides(load_side(first, results), load_side(second, results), split_list(metrics))
    if format == "json":
        print(json.dumps(as_json(found), indent=1, ensure_ascii=False))
    elif format == "md":
        print_markdown(found)
    else:
        print_terminal(found, items)
