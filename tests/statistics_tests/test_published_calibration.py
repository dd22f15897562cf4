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
def calibration_page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("calibration_page", ROOT / "benchmarks" / "calibration_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_prints_what_is_stored(found: Any, calibration_page: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "statistics.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    calibration_page.write_tables(found, page)
    assert page.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")
    changed = copy.deepcopy(found)
    changed["tables"]["gaussian"]["frozen"]["3"]["0.0"]["coverage_new"] -= 0.002
    calibration_page.write_tables(changed, page)
    assert page.read_text(encoding="utf-8") != PAGE.read_text(encoding="utf-8")


def test_a_page_without_markers_is_refused(found: Any, calibration_page: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(ValueError, match="between which the tables go"):
        calibration_page.write_tables(found, page)
    assert page.read_text(encoding="utf-8") == "nothing\n"


@pytest.mark.parametrize("baseline", ["frozen", "trained"])
@pytest.mark.parametrize("noise", ["gaussian", "spread"])
def test_what_is_promised_was_measured(found: Any, noise: str, baseline: str) -> None:
    for n, by_ratio in found["tables"][noise][baseline].items():
        for ratio, cell in by_ratio.items():
            assert cell["false_new"] <= 0.06, (n, ratio)
            assert 0.94 <= cell["coverage_new"] <= 0.965, (n, ratio)
            if float(ratio) >= 1.0:  # where items matter, a test over seeds alone marks far too much
                assert cell["false_t"] > 2.0 * cell["false_new"], (n, ratio)
            if n == "3":
                assert cell["power_new"] > 2.0 * cell["power_t"], (n, ratio)


def test_few_arms_do_not_share_their_variances(found: Any) -> None:
    for arms, by_noise in found["small_tables"].items():
        worst = max(rules["shared"] for by_count in by_noise.values() for rules in by_count.values())
        assert int(arms) > 2 or worst > 0.06, arms
    assert all(rates["5 %"] < 0.06 for by_ratio in found["alone"].values() for rates in by_ratio.values())


def test_arms_that_are_much_louder_keep_their_level(found: Any) -> None:
    for kind in ("loud_10", "loud_30", "loud_100", "loud_1000", "quiet_4_of_6", "quiet_4_of_7", "quiet_3_of_6"):
        for columns, by_count in found["loud"][kind].items():
            for n, cell in by_count.items():
                assert cell["coverage_new"] > (0.86 if n == "3" else 0.93), (kind, columns, n)
                assert cell["false_new"] < (0.12 if n == "3" else 0.075), (kind, columns, n)


def test_intervals_over_items_hold_where_groups_are_told(found: Any) -> None:
    for cell in [*found["character_error_rate"].values(), *found["text"].values()]:
        assert min(cell.values()) > 0.91 and max(cell.values()) < 0.97
    for cell in found["speakers"].values():
        assert cell["grouped"] > 0.91 > cell["ignored"]
