"""Table settings from a file: a table of its own (`tables/*.yaml`), or the `table:` part of an experiment or sweep."""

from __future__ import annotations

from pathlib import Path

from harness.config.kinds import refuse_other_kind
from harness.config.messages import validated
from harness.config.table import TableSettings, TableSpec, check_layout, check_metrics, metric_name
from harness.config.yaml import read_yaml


def load_table_spec(path: Path) -> TableSpec:
    """Read a table file.

    Raises:
        UserError: anything in it is wrong; one line.
    """
    content = read_yaml(path)
    refuse_other_kind(content, str(path), "table")
    spec = validated(TableSpec, content, str(path))
    check_layout(spec.layout, f"{path}: layout")
    if spec.phase == "confirm":
        check_metrics([metric_name(entry) for entry in spec.metrics], f"{path}: metrics")
    for number, claim in enumerate(spec.claims):
        check_metrics([claim.metric], f"{path}: claims.{number}.metric")
    return spec


def load_table_settings(path: Path) -> TableSettings:
    """The table settings of a table, experiment or sweep file, for `--spec`.

    Raises:
        UserError: anything in them is wrong; one line.
    """
    content = read_yaml(path)
    if "experiments" in content:
        spec = load_table_spec(path)
        return TableSettings.model_validate(spec.model_dump(exclude={"name", "experiments"}))
    part = content.get("table", content) if {"arms", "experiment", "design"} & set(content) else content
    settings = validated(TableSettings, part, str(path))
    check_layout(settings.layout, f"{path}: table.layout")
    return settings
