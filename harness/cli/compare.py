"""The command `harness compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import RESULTS, Metrics, Results, name_argument, split_list
from harness.errors import UserError, must_be_in

FORMATS = ("terminal", "md", "json")


def compare(
    first: Annotated[
        str,
        name_argument(
            "An experiment (NAME), one of its arms (NAME:ARM), a results folder, or a file of outputs "
            "(.tsv, .csv, .jsonl, .json).",
            metavar="A",
        ),
    ],
    second: Annotated[str, name_argument("What it is compared with, written the same way.", metavar="B")],
    results: Results = RESULTS,
    metrics: Metrics = None,
    format: Annotated[str, typer.Option(help="terminal, md or json.")] = "terminal",
    items: Annotated[
        int, typer.Option(min=0, help="Items to show: so many that got better, and so many that got worse.")
    ] = 0,
) -> None:
    """Compare two experiments, arms or files of outputs.

    Seeds and test items that both have are paired. A file of outputs holds a key, a reference and a hypothesis for each
    test item: a table with a header, the predictions.jsonl of a record, a NeMo manifest with pred_text, or the
    samples_*.jsonl of lm-evaluation-harness.
    """
    must_be_in(format, FORMATS, f"--format {format!r}")
    from harness.checks.compare import compare_sides
    from harness.checks.output_files import is_output_file
    from harness.checks.sides import load_side
    from harness.cli.views.compare import as_json, print_markdown, print_terminal

    files = [is_output_file(asked) for asked in (first, second)]
    if all(files):
        _compare_files(first, second, split_list(metrics, "--metrics"), format)
        return
    if any(files):
        asked, other = (first, second) if files[0] else (second, first)
        raise UserError(f"{asked} is a file of outputs and {other} is not; compare two files, or two experiments")
    found = compare_sides(load_side(first, results), load_side(second, results), split_list(metrics, "--metrics"))
    if format == "json":
        print(json.dumps(as_json(found), indent=1, ensure_ascii=False))
    elif format == "md":
        print_markdown(found)
    else:
        print_terminal(found, items)


def _compare_files(first: str, second: str, metrics: Sequence[str], format: str) -> None:
    from harness.checks.compare_outputs import compare_outputs
    from harness.cli.views.compare_outputs import print_comparison

    print_comparison(compare_outputs(Path(first), Path(second), metrics), format)
