"""The command `harness report`."""

from __future__ import annotations

from pathlib import Path

from harness.report.page import write_report
from harness.report.sources import load_sources


def report_command(name: str, results: Path, out: Path | None) -> None:
    """Write the HTML page of an experiment or a sweep, and its figures.

    Raises:
        UserError: nothing has been run under this name, no trial is finished, or `--out` cannot be written.
    """
    path, figures = write_report(load_sources(results, name), out)
    print(f"{path} ({path.stat().st_size / 1024:.0f} KB; opens in any browser, needs no network)")
    print(f"figures as SVG and PDF in {figures}")
