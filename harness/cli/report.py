"""The command `harness report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import RESULTS, Name, Results


def report(
    name: Name,
    results: Results = RESULTS,
    out: Annotated[Path | None, typer.Option(help="The page's file; RESULTS/NAME/report.html when left out.")] = None,
) -> None:
    """Write a page about an experiment or sweep. One HTML file has table, methods, figures and changed examples."""
    from harness.report.page import write_report
    from harness.report.sources import load_sources

    path, figures = write_report(load_sources(results, name), out)
    print(f"{path} ({path.stat().st_size / 1024:.0f} KB; opens in any browser, needs no network)")
    print(f"figures as SVG and PDF in {figures}")
