"""The committed JSON Schemas are those of the code, accept every shipped file and refuse a wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.config.schemas import SCHEMAS, text_of
from harness.config.yaml import read_yaml

ROOT = Path(__file__).resolve().parents[2]
SWEEPS, EXPERIMENTS = sorted((ROOT / "sweeps").glob("*.yaml")), sorted((ROOT / "experiments").glob("*.yaml"))
TABLES = sorted((ROOT / "tables").glob("*.yaml"))


def committed(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "schemas" / name).read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", SCHEMAS)
def test_committed_schema_is_up_to_date(name: str) -> None:
    assert (ROOT / "schemas" / name).read_text(encoding="utf-8") == text_of(SCHEMAS[name]())
    jsonschema.Draft202012Validator.check_schema(committed(name))


@pytest.mark.parametrize("path", [*SWEEPS, *EXPERIMENTS, *TABLES], ids=lambda path: path.stem)
def test_shipped_files_are_valid(path: Path) -> None:
    name = {"sweeps": "sweep.json", "experiments": "experiment.json", "tables": "table.json"}[path.parent.name]
    jsonschema.validate(read_yaml(path), committed(name))
    assert f"$schema=../schemas/{name}" in path.read_text(encoding="utf-8").splitlines()[0]


@pytest.mark.parametrize(
    "change",
    [
        {"budget": {"trials": 0}},
        {"samplers": {}},
        {"space": {"optim.lr": {"type": "log", "low": 1, "high": 2}}},
        {"confirm": {"seeds": []}},
    ],
)
def test_wrong_sweeps_are_refused(change: dict[str, Any]) -> None:
    content = read_yaml(SWEEPS[0]) | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, committed("sweep.json"))


def test_an_unknown_setting_of_an_arm_is_refused() -> None:
    content = read_yaml(ROOT / "experiments" / "demo_text.yaml")
    content["arms"]["frozen"]["optimm"] = {}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, committed("experiment.json"))
