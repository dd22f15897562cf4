"""The settings of a table: the `table:` part of an experiment or sweep file, or a file of its own (`tables/*.yaml`).

Typed, frozen, unknown keys refused. What can be wrong before there are records (metrics, arms, layouts, claims) is
checked here, the rest when the table is built. Loads no torch.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from harness.config.base import NUMBER, Name, NonNegativeInt, OneLine, PositiveFloat, Settings, content_hash
from harness.config.rows import RowId, find_rows
from harness.errors import UserError, must_be_in
from harness.metrics import RECORDED, TABLE_METRICS, describe_metric

Show = Literal["value", "delta", "relative", "interval", "p_value"]
Summary = Literal[
    "mean",
    "weighted_mean",
    "relative_reduction",
    "weighted_relative_reduction",
    "interquartile_mean",
    "probability_of_improvement",
]
Probability = Annotated[float, Field(gt=0, lt=1), NUMBER]


def _text_or_mapping(value: Any) -> str | None:
    if isinstance(value, str):
        return "name"
    return "settings" if isinstance(value, (Mapping, Settings)) else None


class MetricSettings(Settings):
    """One metric's columns."""

    metric: str
    """The metric, as `target_cer`, or a domain's, as `es/wer`."""
    header: OneLine | None = None
    """The column's header; the metric's own by default."""
    direction: Literal["higher", "lower"] | None = None
    """Which direction is better. The metric knows; if it is written out, it is checked."""
    unit: str | None = None
    """The unit that is printed. The metric knows; if it is written out, it is checked."""
    decimals: NonNegativeInt | None = None
    """Digits after the point; the metric's own number by default."""
    show: tuple[Show, ...] = Field(default=("value",), min_length=1)
    """The columns: the value, its paired difference from the baseline (delta), the share of the baseline's error that
    is removed (relative), the value's confidence interval, the adjusted p."""


MetricEntry = Annotated[
    Annotated[str, Tag("name")] | Annotated[MetricSettings, Tag("settings")],
    Discriminator(
        _text_or_mapping,
        custom_error_type="metric",
        custom_error_message="Input should be a metric's name, or {metric: NAME, show: [...], ...}",
    ),
]


class ReferenceSettings(Settings):
    """A paper's numbers beside ours; only rows and columns that are mapped get one."""

    paper: str
    """The paper, by its file's name in harness/tables/papers/."""
    show: Literal["columns", "rows"] = "columns"
    """columns: beside each mapped column; rows: a table of the mapped cells alone."""
    rows: dict[str, str] = Field(min_length=1)
    """Our rows, and the paper's name of each (`tweets: SST`)."""
    columns: dict[str, str] = Field(min_length=1)
    """Our columns, and the paper's name of each (`full_fine_tuning: Full`)."""


class _Claim(Settings):
    """Base of the claims: what is claimed, in words, and on which metric."""

    text: OneLine = Field(min_length=1)
    """The claim in words; the table prints it."""
    metric: str
    """The metric that the claim is about."""

    @property
    def id(self) -> str:
        """Hash of everything that is claimed."""
        return content_hash(self.model_dump(mode="json"))


class ContrastClaim(_Claim):
    """The metric of one arm against that of another, paired over seeds."""

    type: Literal["contrast"]
    """A claim about the difference between two arms."""
    arm: str
    """The arm that the claim is about."""
    than: str
    """The arm that it is compared with."""
    expect: Literal["lower", "higher", "better", "worse", "equal"]
    """What the mean difference is expected to be."""
    by: Annotated[float, Field(ge=0), NUMBER] = 0.0
    """By how much at least, in the table's unit; with `equal`, the margin on both sides."""

    @model_validator(mode="after")
    def _is_about_two_arms(self) -> ContrastClaim:
        if self.arm == self.than:
            raise ValueError(f"arm and than are both {self.arm!r}")
        if self.expect == "equal" and self.by == 0:
            raise ValueError("expect: equal needs a margin: by, in the table's unit")
        return self


class TrendClaim(_Claim):
    """How the metric changes along a setting, by the slope of a line fitted in each seed."""

    type: Literal["trend"]
    """A claim about a slope."""
    along: str
    """A numeric setting (`data.train_limit`, `adapter.dim`), whose values come from different arms or experiments."""
    expect: Literal["increasing", "decreasing"]
    """The sign of the slope."""
    arm: str | None = None
    """The arm whose metric is meant; every arm that has the setting, when left out."""
    than: str | None = None
    """Fit the gain over this arm (the paired difference in the metric's better direction) instead of the metric."""
    log: bool = False
    """Fit against the setting's logarithm; the slope is then per factor of ten."""

    @model_validator(mode="after")
    def _gain_has_an_arm(self) -> TrendClaim:
        if self.than is not None and self.arm in (None, self.than):
            raise ValueError("than needs `arm`, and another one: the claim is about the gain of `arm` over `than`")
        return self


Claim = Annotated[ContrastClaim | TrendClaim, Discriminator("type")]


class TableSettings(Settings):
    """What a table shows, and how."""

    metrics: tuple[MetricEntry, ...] = ()
    """The columns: metrics by name, or with settings of their own. By default the task's usual ones."""
    baseline: str | None = None
    """The arm that the others are compared with."""
    title: OneLine | None = None
    """The table's title; the experiment's description by default."""
    layout: str | None = None
    """A named layout (`arms`, `ablation`, `effects`, ...). What is set here goes before it."""
    rows: tuple[str, ...] = Field(default=("arm",), min_length=1)
    """What tells the rows apart: `arm`, `target`, `experiment`, a factor, or any setting (`adapter.dim`). Of several,
    the last names the rows and the others group them."""
    columns: tuple[str, ...] = ()
    """What tells the columns apart, above the metrics; written as `rows` are."""
    arms: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The arms to show, in this order; all by default."""
    where: dict[str, Any] = Field(default_factory=dict)
    """Show only trials that have these settings (`adapter.dim: 32`)."""
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Groups of rows: the name of each, and its rows in order."""
    labels: dict[str, OneLine] = Field(default_factory=dict)
    """What to print for an arm, target or setting."""
    settings: tuple[str, ...] = ()
    """Hyperparameters to show as columns (`optim.lr`)."""
    sort: Literal["file", "size"] = "file"
    """The order of the rows: as in the file, or by `data.train_limit`, smallest first."""
    summary: tuple[Summary, ...] = ()
    """Rows below a table of several targets: means over them, and how much of the baseline's error is removed."""
    weights: dict[str, PositiveFloat] | None = None
    """The weight of each row in the weighted mean; `data.train_limit` by default."""
    count: Literal["auto", "always", "never"] = "auto"
    """Whether the number of seeds is a column; auto: if the rows have different numbers of them."""
    spread: Literal["sd", "interval", "none"] = "sd"
    """What stands behind the mean: the sample standard deviation, the confidence interval, or nothing."""
    level: Probability = 0.95
    """The confidence level of all intervals."""
    alpha: Probability = 0.05
    """The error rate of the whole table's significance marks."""
    phase: Literal["confirm", "search"] = "confirm"
    """Which trials of a sweep: the winners on fresh seeds (test metrics), or the search (validation metrics)."""
    reference: ReferenceSettings | None = None
    """A paper's numbers, to be printed beside ours."""
    claims: tuple[Claim, ...] = ()
    """What you expect, written down before the run; the table judges it."""

    @field_validator("rows", "columns", mode="before", json_schema_input_type=str | tuple[str, ...])
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_consistent(self) -> TableSettings:
        _once("rows and columns", (*self.rows, *self.columns))
        _once("arms", self.arms or ())
        _once("groups", [row for rows in self.groups.values() for row in rows])
        _once("settings", self.settings)
        _once("claims", [claim.text for claim in self.claims])
        if self.groups and len(self.rows) > 1:
            raise ValueError(f"groups: the rows are grouped by {self.rows[0]} already")
        if self.arms is not None and self.baseline is not None and self.baseline not in self.arms:
            raise ValueError(f"baseline {self.baseline!r} is not among the arms to show: {', '.join(self.arms)}")
        return self

    def recorded(self) -> dict[str, Any]:
        """What experiment.json keeps: metrics, baseline, title, and whatever is not as by default."""
        plain, usual = self.model_dump(mode="json"), TableSettings().model_dump(mode="json")
        always = ("metrics", "baseline", "title")
        return {key: value for key, value in plain.items() if key in always or value != usual.get(key)}


def _once(field: str, names: Any) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{field}: {twice[0]!r} is named twice")


class TableSpec(TableSettings):
    """A table in a file of its own, of one experiment or several (by name; their records lie in the results folder)."""

    name: Name
    """The table's name."""
    experiments: tuple[str, ...] = Field(min_length=1)
    """The experiments and sweeps whose records the table shows, by name."""


LAYOUT_NAMES = (
    "arms",
    "ablation",
    "effects",
    "adapterfusion",
    "simadapter",
    "damage_control",
    "nemo_grid",
)


def check_table(table: TableSettings, rows: Sequence[RowId], where: str) -> None:
    """Refuse settings that are wrong whatever the records will hold.

    Args:
        rows: those that the table may have. Every name that is accepted here is accepted when the records are there.

    Raises:
        UserError: an unknown metric, arm or layout; one line with the choices.
    """
    check_layout(table.layout, f"{where}.layout")
    if table.phase == "confirm":
        check_metrics([metric_name(entry) for entry in table.metrics], f"{where}.metrics")
    for entry in table.metrics:
        check_statements(entry, f"{where}.metrics")
    for number, claim in enumerate(table.claims):
        check_metrics([claim.metric], f"{where}.claims.{number}.metric")
    for place, name in _named_rows(table):
        rows_named(name, rows, f"{where}.{place}")


def _named_rows(table: TableSettings) -> Iterator[tuple[str, str]]:
    """Every row that the settings name, with the setting that names it."""
    if table.baseline is not None:
        yield "baseline", table.baseline
    yield from (("arms", name) for name in table.arms or ())
    if table.rows == ("arm",):
        yield from ((f"groups.{group}", name) for group, members in table.groups.items() for name in members)
    for number, claim in enumerate(table.claims):
        sides = (("arm", claim.arm), ("than", claim.than))
        yield from ((f"claims.{number}.{side}", name) for side, name in sides if name is not None)


def rows_named(name: str, rows: Sequence[RowId], where: str, of: str = "") -> list[str]:
    """The names of the rows that a name in a file means: an arm, `ARM (RULE)`, or a row as its table shows it.

    Args:
        where: the setting or argument that has the name; `of`: what has no such row (experiments), for the message.

    Raises:
        UserError: it means none; one line with the choices.
    """
    found = find_rows(name, rows)
    if not found:
        choices = dict.fromkeys([*(row.arm for row in rows), *(row.name for row in rows)])
        must_be_in(name, choices, f"{where}: no arm {name!r}{of and f' in {of}'}")
    return found


def check_layout(name: str | None, where: str) -> None:
    """Raise UserError, with the choices, for an unknown layout."""
    if name is not None:
        must_be_in(name, LAYOUT_NAMES, f"{where}: unknown layout {name!r}")


def metric_name(entry: str | MetricSettings) -> str:
    """The metric of an entry of `metrics:`."""
    return entry if isinstance(entry, str) else entry.metric


def check_metrics(names: Sequence[str], where: str) -> None:
    """Raise UserError for a column that no record can have (those of another task are found by the table)."""
    for name in names:
        if name in TABLE_METRICS or ("/" in name and describe_metric(name) is not None):
            continue
        near = difflib.get_close_matches(name, TABLE_METRICS, n=1)
        hint = f". Did you mean {near[0]}?" if near else ""
        recorded = [name for name in TABLE_METRICS if name in RECORDED and not name.startswith("source_")]
        scores = [name.removeprefix("target_") for name in recorded if name.startswith("target_")]
        others = [name for name in recorded if not name.startswith("target_")]
        choices = f"target_X or source_X, where X is {', '.join(scores)}; {', '.join(others)}"
        raise UserError(
            f"{where}: unknown metric {name!r}; choices: {choices}, more in docs/reference/metrics.md{hint}"
        )


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
