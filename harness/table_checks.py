"""What can be wrong with a table before there are records: metrics, arms, layouts, claims. Loads no torch."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from harness.errors import UserError, must_be_in
from harness.metrics import METRICS, TABLE_METRICS, describe_metric
from harness.table_settings import MetricSettings, TableSettings

LAYOUT_NAMES = (
    "arms",
    "ablation",
    "effects",
    "adapterfusion",
    "simadapter",
    "damage_control",
    "nemo_grid",
)


def check_table(table: TableSettings, arms: Sequence[str], where: str, rules: Sequence[str] = ()) -> None:
    """Refuse what no record could mend.

    Args:
        arms: the experiment's arms.
        rules: a sweep's selection rules; with several, its rows are called `ARM (RULE)`, or `ARM`.

    Raises:
        UserError: an unknown metric, arm or layout; one line with the choices.
    """
    check_layout(table.layout, f"{where}.layout")
    if table.phase == "confirm":
        check_metrics([metric_name(entry) for entry in table.metrics], f"{where}.metrics")
    for entry in table.metrics:
        check_statements(entry, f"{where}.metrics")
    rows = [*arms, *(f"{arm} ({rule})" for arm in arms for rule in rules)]
    if table.baseline is not None:
        must_be_in(table.baseline, rows, f"{where}.baseline: no arm {table.baseline!r}")
    for arm in table.arms or ():
        must_be_in(arm, rows, f"{where}.arms: no arm {arm!r}")
    if table.rows == ("arm",):
        for group, members in table.groups.items():
            for arm in members:
                must_be_in(arm, rows, f"{where}.groups.{group}: no arm {arm!r}")
    for number, claim in enumerate(table.claims):
        place = f"{where}.claims.{number}"
        check_metrics([claim.metric], f"{place}.metric")
        for field in ("arm", "than"):
            arm = getattr(claim, field)
            if arm is not None:
                must_be_in(arm, rows, f"{place}.{field}: no arm {arm!r}")


def check_layout(name: str | None, where: str) -> None:
    """Raise UserError for a layout that there is not."""
    if name is not None:
        must_be_in(name, LAYOUT_NAMES, f"{where}: unknown layout {name!r}")


def metric_name(entry: str | MetricSettings) -> str:
    """The metric of an entry of `metrics:`."""
    return entry if isinstance(entry, str) else entry.metric


def check_metrics(names: Sequence[str], where: str) -> None:
    """Raise UserError for a column that no record can have (those of the other family are found by the table)."""
    for name in names:
        if name in TABLE_METRICS or ("/" in name and describe_metric(name) is not None):
            continue
        near = difflib.get_close_matches(name, TABLE_METRICS, n=1)
        hint = f". Did you mean {near[0]}?" if near else ""
        choices = ", ".join(name for name in TABLE_METRICS if name in METRICS)
        raise UserError(f"{where}: unknown metric {name!r}; choices: {choices}, more in docs/tables.md{hint}")


def check_statements(entry: str | MetricSettings, where: str) -> None:
    """Raise UserError for a direction or unit that is written out and not the metric's own."""
    if isinstance(entry, str):
        return
    known = describe_metric(entry.metric)
    if known is None:
        return
    if entry.direction not in (None, known.direction):
        raise UserError(
            f"{where}: {entry.metric}: direction {entry.direction}, but {known.direction} is better; "
            f"choices: {known.direction}"
        )
    if entry.unit not in (None, known.unit):
        raise UserError(f"{where}: {entry.metric}: unit {entry.unit!r}, but it is in {known.unit!r}")
