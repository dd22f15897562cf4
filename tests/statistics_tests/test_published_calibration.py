"""The calibration that docs/explanation/statistics.md prints is the stored one, and it backs the defaults."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
STORED = ROOT / "benchmarks" / "results" / "calibration.json"
PAGE = ROOT / "docs" / "explanation" / "statistics.md"


@pytest.fixture(scope="module")
def found() -> Any:
    return json.loads(STORED.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def calibration_table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("calibration_table", ROOT / "benchmarks" / "calibration_table.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_prints_what_is_stored(found: Any, calibration_table: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "statistics.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    calibration_table.write_tables(found, page)
    assert page.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")
    changed = copy.deepcopy(found)
    changed["seeds"]["gaussian"]["3"]["difference"]["t"]["coverage"] -= 0.002
    calibration_table.write_tables(changed, page)
    assert page.read_text(encoding="utf-8") != PAGE.read_text(encoding="utf-8")


def test_a_page_without_markers_is_refused(found: Any, calibration_table: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(ValueError, match="between which the tables go"):
        calibration_table.write_tables(found, page)
    assert page.read_text(encoding="utf-8") == "nothing\n"


def test_t_over_seeds_holds_and_percentiles_do_not() -> None:
    seeds = json.loads(STORED.read_text(encoding="utf-8"))["seeds"]
    for noise, by_count in seeds.items():
        for n, cell in by_count.items():
            coverage = {method: values["coverage"] for method, values in cell["difference"].items()}
            assert coverage["t"] > max(coverage["percentile"], coverage["bca"]), (noise, n)
            if noise == "gaussian":
                assert 0.94 < coverage["t"] < 0.96 and cell["table"]["t_holm"] < 0.06, n
            if n == "3":
                assert coverage["percentile"] < 0.75, noise


def test_the_default_over_items_is_the_one_that_held_best() -> None:
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    cells = [row["difference"] for row in stored["character_error_rate"].values()]
    cells += [row["macro_f1_difference"] for row in stored["text"].values()]
    for method in ("percentile", "bca"):
        missed = {name: sum(abs(0.95 - cell[name]["coverage"]) for cell in cells) for name in ("bootstrap_t", method)}
        assert missed["bootstrap_t"] <= missed[method] + 0.01 * len(cells)
    for row in stored["speakers"].values():
        assert row["speakers_bootstrap_t"]["coverage"] > row["speakers_percentile"]["coverage"]
