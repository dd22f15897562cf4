"""JSON Schemas of settings files, for editors; docs/generate.py writes those that are shipped.

They know types, names and bounds; what needs the experiment (arms, metrics of its task) is checked when a file is
loaded.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from harness.config.base import Settings
from harness.config.depends import STAGES
from harness.config.sweep import SweepConfig
from harness.config.table import TableSpec
from harness.config.trial import ExperimentConfig, TrialConfig

DRAFT = "https://json-schema.org/draft/2020-12/schema"


class _BehindChecks(GenerateJsonSchema):
    """Writes a number's own bounds, where pydantic would write `anything` because a check runs before its own.

    A check that also takes a value of another type, as one text for a list of them, says so (`json_schema_input_type`).
    """

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        own, taken = self.generate_inner(schema["schema"]), schema.get("json_schema_input_schema")
        if taken is None or taken["type"] == "any":
            return own
        kinds = self.generate_inner(taken).get("anyOf", [])
        return {"anyOf": [*(kind for kind in kinds if kind.get("type") != own.get("type")), own]}


def sweep_schema() -> dict[str, Any]:
    """The schema of a sweep file."""
    return schema_of(SweepConfig, "A sweep of harness")


def experiment_schema() -> dict[str, Any]:
    """The schema of an experiment file; `base` and the arms may hold any part of a trial's settings."""
    schema = schema_of(ExperimentConfig, "An experiment of harness")
    trial = schema_of(TrialConfig, "A trial of harness")
    schema["$defs"] |= trial.pop("$defs")
    partial = {
        "type": "object",
        "description": "Settings of a trial, those that are shared or those that differ.",
        "additionalProperties": False,
        "properties": trial["properties"],
    }
    partial["properties"].pop("seed")  # seeds belong to the experiment
    partial["properties"][STAGES] = {
        "type": "array",
        "items": {"$ref": "#/$defs/PartialTrial"},
        "default": [],
        "description": "Trainings one after another, each with the settings in which it differs from the arm. Each "
        "starts with the weights of the one before it; the row is that of the last one.",
    }
    (members,) = (kind for kind in partial["properties"]["adapters"]["anyOf"] if kind["type"] == "object")
    members["patternProperties"] = {  # an arm leaves an adapter of the base out by null
        names: {"anyOf": [member, {"type": "null"}]} for names, member in members["patternProperties"].items()
    }
    for name in ("DataSettings", "BackboneSettings"):
        schema["$defs"][name].pop("required", None)  # an arm gives only what differs
    schema["$defs"]["PartialTrial"] = partial
    of_base = {"$ref": "#/$defs/PartialTrial", "description": schema["properties"]["base"]["description"]}
    schema["properties"]["base"] = of_base
    for name in ("arms", "parts"):
        schema["properties"][name]["additionalProperties"] = {"$ref": "#/$defs/PartialTrial"}
    return schema


def table_schema() -> dict[str, Any]:
    """The schema of a table file."""
    return schema_of(TableSpec, "A table of harness")


def schema_of(model: type[Settings], title: str) -> dict[str, Any]:
    """The schema of a settings class; keys as they are written, and their descriptions on one line each."""
    schema = model.model_json_schema(by_alias=True, schema_generator=_BehindChecks)
    schema.setdefault("$defs", {})
    described: dict[str, Any] = _on_one_line({"$schema": DRAFT, **schema, "title": title})
    return described


def _on_one_line(node: Any) -> Any:
    """A schema in which every description of a key is one line: docstrings are wrapped for the source."""
    if isinstance(node, dict):
        return {
            key: " ".join(value.split()) if key == "description" and isinstance(value, str) else _on_one_line(value)
            for key, value in node.items()
        }
    return [_on_one_line(item) for item in node] if isinstance(node, list) else node


SCHEMAS = {"sweep.json": sweep_schema, "experiment.json": experiment_schema, "table.json": table_schema}


def text_of(schema: dict[str, Any]) -> str:
    """A schema as it is written to its file."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
