"""Do the intervals of `harness.statistics` hold the true value as often as they say, and how many marks are false?

Everything is drawn from named seeds, so the same code gives the same numbers. It takes about half an hour of one core,
and needs two corpora (`harness data fetch asterisk vader`) beside the published records in results/.

    python benchmarks/calibration.py             writes benchmarks/results/calibration.json, then the page's tables
    python benchmarks/calibration.py --quick     a twentieth of it, printed only
    python benchmarks/calibration.py --only loud writes some parts again, and keeps the other ones
    python benchmarks/calibration.py --redraw    writes the figure and the page's tables again
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from calibration_aggregates import calibrate_aggregates
from calibration_cells import calibrate_alone, calibrate_cells
from calibration_figure import draw_calibration, save_calibration
from calibration_items import calibrate_error_rates, calibrate_speakers, calibrate_text
from calibration_loud import calibrate_loud
from calibration_page import write_tables
from calibration_tables import calibrate_small_tables, calibrate_tables

ROOT = Path(__file__).parents[1]
JSON = ROOT / "benchmarks" / "results" / "calibration.json"
FIGURES, PAGE = ROOT / "docs" / "figures", ROOT / "docs" / "explanation" / "statistics.md"


def parts(scale: float) -> dict[str, Callable[[], dict[str, Any]]]:
    """Every part of the calibration by name; `scale` 1 is all of it."""
    return {
        "tables": lambda: calibrate_tables(scale),
        "small_tables": lambda: calibrate_small_tables(scale),
        "loud": lambda: calibrate_loud(scale),
        "alone": lambda: calibrate_alone(scale),
        "cells": lambda: calibrate_cells(scale),
        "character_error_rate": lambda: calibrate_error_rates(scale),
        "speakers": lambda: calibrate_speakers(scale),
        "text": lambda: calibrate_text(scale),
        "aggregates": lambda: calibrate_aggregates(scale),
    }


def main() -> None:
    """Run the calibration, write its results, draw its figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the samples; nothing is written")
    parser.add_argument("--only", nargs="+", choices=parts(1.0), help="these parts, the others as they are stored")
    parser.add_argument("--redraw", action="store_true", help="write figure and tables from the stored results")
    arguments = parser.parse_args()
    if not arguments.redraw:
        stored = json.loads(JSON.read_text(encoding="utf-8")) if arguments.only else {}
        found: dict[str, Any] = {}
        began = time.process_time()
        for name, part in parts(0.05 if arguments.quick else 1.0).items():
            if name in (arguments.only or [name]):
                found[name] = part()
                print(f"{name}: {time.process_time() - began:.0f} s of CPU", flush=True)
        if arguments.quick:
            print(json.dumps(_rounded(found), indent=1))
            return
        found = {name: {**stored, **found}[name] for name in parts(1.0)}
        found["made_with"] = stored.get("made_with") or {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "cpu_seconds": round(time.process_time() - began),
        }
        JSON.parent.mkdir(exist_ok=True)
        JSON.write_text(json.dumps(_rounded(found), indent=1) + "\n", encoding="utf-8")
    stored = json.loads(JSON.read_text(encoding="utf-8"))
    save_calibration(draw_calibration(stored), FIGURES)
    write_tables(stored, PAGE)


def _rounded(value: Any) -> Any:
    """Numbers to five significant digits (more would be noise); JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


if __name__ == "__main__":
    main()
