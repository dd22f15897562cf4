"""Do the intervals of `harness.statistics` hold the true value as often as they say, and how many marks are false?

Everything is drawn from named seeds, so the same code gives the same numbers. It takes some six minutes of one
core; it needs the published records in results/ and two corpora (`harness data fetch asterisk vader`).

    python benchmarks/calibration.py             writes benchmarks/results/calibration.json, then figure and tables
    python benchmarks/calibration.py --quick     a twentieth of it, printed only
    python benchmarks/calibration.py --redraw    draws docs/figures/calibration.* and its table in docs again
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from calibration_figure import draw_calibration, save_calibration
from calibration_items import (
    RESAMPLES,
    TEST_SETS,
    calibrate_documents,
    calibrate_error_rates,
    calibrate_speakers,
    calibrate_text,
)
from calibration_levels import calibrate_aggregates, calibrate_two_level
from calibration_noise import ARMS, BANDWIDTH, COLUMNS, FAILING, FALL, NUM_COLUMNS, arm_correlation
from calibration_seeds import EFFECT, SAMPLES, TABLES, calibrate_seeds
from calibration_table import write_tables

ROOT = Path(__file__).parents[1]
JSON = ROOT / "benchmarks" / "results" / "calibration.json"
FIGURES, PAGE = ROOT / "docs" / "figures", ROOT / "docs" / "explanation" / "statistics.md"


def parts(scale: float) -> dict[str, Callable[[], dict[str, Any]]]:
    """Every part of the calibration by name; `scale` 1 is all of it."""
    sets = max(20, int(TEST_SETS * scale))
    return {
        "seeds": lambda: calibrate_seeds(scale),
        "character_error_rate": lambda: calibrate_error_rates("characters", sets),
        "word_error_rate": lambda: calibrate_error_rates("words", sets),
        "speakers": lambda: calibrate_speakers(sets),
        "text": lambda: calibrate_text(sets),
        "documents": lambda: calibrate_documents(sets),
        "two_level": lambda: calibrate_two_level(sets),
        "aggregates": lambda: calibrate_aggregates(sets),
    }


def settings() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "tables": TABLES,
        "samples": SAMPLES,
        "test_sets": TEST_SETS,
        "resamples": RESAMPLES,
        "arms": ARMS,
        "columns": NUM_COLUMNS,
        "comparisons_a_table": (ARMS - 1) * NUM_COLUMNS,
        "kernel_bandwidth_sd": BANDWIDTH,
        "failing_share": FAILING,
        "failing_fall_sd": FALL,
        "power_effect_sd": EFFECT,
        "measured_arm_correlation": {experiment: arm_correlation(experiment) for experiment in COLUMNS},
    }


def main() -> None:
    """Run the calibration, write its results, draw its figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the samples; nothing is written")
    parser.add_argument("--redraw", action="store_true", help="draw figure and tables from the stored results")
    arguments = parser.parse_args()
    if not arguments.redraw:
        found: dict[str, Any] = {"settings": settings()}
        began = time.process_time()
        for name, part in parts(0.05 if arguments.quick else 1.0).items():
            found[name] = part()
            print(f"{name}: {time.process_time() - began:.0f} s of CPU", flush=True)
        if arguments.quick:
            print(json.dumps(_rounded(found), indent=1))
            return
        found["made_with"] = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "cpu_seconds": round(time.process_time() - began),
        }
        JSON.parent.mkdir(exist_ok=True)
        JSON.write_text(json.dumps(_rounded(found), indent=1) + "\n", encoding="utf-8")
    stored = json.loads(JSON.read_text(encoding="utf-8"))
    save_calibration(draw_calibration(stored), FIGURES)
    write_tables(stored, PAGE)


def _rounded(value: Any) -> Any:
    """Numbers to five significant digits: more would be noise."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
