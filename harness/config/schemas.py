"""JSON Schemas of sweep, experiment and table files, for editors; `python -m harness.config.schemas` writes them.

They know types, names and bounds; what needs the experiment (arms, metrics of its task) is checked when a file is
loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from harness.config.base import Settings
from harness.config.sweep import SweepConfig
from harness.config.table import TableSpec
from harness.config.trial import ExperimentConfig, TrialConfig

FOLDER = Path("schemas")
DRAFT = "https://json-schema.org/draft/2020-12/schema"


class _BehindChecks(GenerateJsonSchema):
    """A number that is first checked not to be text is still a number with its bounds (pydantic says: anything)."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def sweep_schema() -> dict[str, Any]:
    """The schema of a sweep file."""
    return _schema(SweepConfig, "A sweep of harness")


def experiment_schema() -> dict[str, Any]:
    """The schema of an experiment file; `base` and the arms may hold any part of a trial's settings."""
    schema = _schema(ExperimentConfig, "An experiment of harness")
    trial = TrialConfig.model_json_schema(by_alias=True, schema_generator=_BehindChecks)
    schema["$defs"] |= trial.pop("$defs")
    partial = {"type": "object", "additionalProperties": False, "properties": trial["properties"]}
    partial["properties"].pop("seed")  # seeds belong to the experiment
    for name in ("DataSettings", "BackboneSettings"):
        schema["$defs"][name].pop("required", None)  # an arm gives only what differs
    schema["$defs"]["PartialTrial"] = partial
    schema["properties"]["base"] = {"$ref": "#/$defs/PartialTrial"}
    schema["properties"]["arms"]["additionalProperties"] = {"$ref": "#/$defs/PartialTrial"}
    return schema


def table_schema() -> dict[str, Any]:
    """The schema of a table file."""
    return _schema(TableSpec, "A table of harness")


def _schema(model: type[Settings], title: str) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True, schema_generator=_BehindChecks)
    schema.setdefault("$defs", {})
    return {"$schema": DRAFT, **schema, "title": title}


SCHEMAS = {"sweep.json": sweep_schema, "experiment.json": experiment_schema, "table.json": table_schema}


def text_of(schema: dict[str, Any]) -> str:
    """A schema as it is written to its file."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, make in SCHEMAS.items():
        (FOLDER / name).write_text(text_of(make()), encoding="utf-8")
