"""The committed JSON Schemas accept every shipped file and refuse a wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from harness.config.yaml import read_yaml

ROOT = Path(__file__).resolve().parents[2]
SWEEPS, EXPERIMENTS = sorted((ROOT / "sweeps").glob("*.yaml")), sorted((ROOT / "experiments").rglob("*.yaml"))
TABLES, RECIPES = sorted((ROOT / "tables").glob("*.yaml")), sorted((ROOT / "harness/backbones/shipped").glob("*.yaml"))
KINDS = {
    "sweeps": "sweep.json",
    "experiments": "experiment.json",
    "papers": "experiment.json",
    "tables": "table.json",
    "shipped": "recipe.json",
}


def committed(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "schemas" / name).read_text(encoding="utf-8"))
    return found


def settings_with_keys(schema: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Every key of a schema: the settings that it belongs to, its name, and what is said of it."""
    nodes = {"": schema, **schema["$defs"]}
    return [(place, key, field) for place, node in nodes.items() for key, field in node.get("properties", {}).items()]


@pytest.mark.parametrize("name", ["sweep.json", "experiment.json", "table.json", "recipe.json"])
def test_every_key_says_what_it_means(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(committed(name))
    keys = settings_with_keys(committed(name))
    assert len(keys) > 40
    assert [(place, key) for place, key, field in keys if len(field.get("description", "")) < 8] == []
    # YAML takes some words for others: `on: source` has the key True.
    assert [(place, key) for place, key, _ in keys if yaml.safe_load(key) != key] == []


@pytest.mark.parametrize("path", [*SWEEPS, *EXPERIMENTS, *TABLES, *RECIPES], ids=lambda path: path.stem)
def test_shipped_files_are_valid(path: Path) -> None:
    name = KINDS[path.parent.name]
    jsonschema.validate(read_yaml(path), committed(name))
    assert f"/schemas/{name}" in path.read_text(encoding="utf-8").splitlines()[0]


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


def test_arms_have_stages_and_leave_adapters_out_by_null() -> None:
    """As the how-to page on stages writes them."""
    text = (ROOT / "docs" / "how-to" / "train-in-stages.md").read_text(encoding="utf-8")
    content = yaml.safe_load(text.partition("```yaml file=stages.yaml\n")[2].partition("```")[0])
    content["arms"]["alone"] = {"adapters": {"source": None}}
    validator = jsonschema.Draft202012Validator(committed("experiment.json"))
    validator.validate(content)
    wrong_ones: list[dict[str, Any]] = [{"stages": {}}, {"stages": [{"optm": 1}]}, {"adapters": {"a": 1}}]
    for wrong in wrong_ones:
        assert not validator.is_valid({**content, "parts": {"news": wrong}}), wrong


@pytest.mark.parametrize(("name", "file"), [("experiment.json", "experiments/demo_text.yaml"), ("table.json", "")])
def test_one_name_may_stand_for_a_list_of_one(name: str, file: str) -> None:
    """`rows: target` and `columns: arm`, as the page on tables recommends; but an empty list of rows is none."""
    content = read_yaml(ROOT / file if file else TABLES[0])
    table = content.setdefault("table", {}) if file else content
    validator = jsonschema.Draft202012Validator(committed(name))
    for rows, columns in (("target", "arm"), (["target"], ["arm"]), (["experiment", "target"], [])):
        table |= {"rows": rows, "columns": columns}
        validator.validate(content)
    for wrong in ([], 3, [3]):
        table["rows"] = wrong
        assert not validator.is_valid(content), wrong
