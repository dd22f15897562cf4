"""Show settings in plain tables: what differs between arms, what a search could choose from, what it chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.trees import flatten, show
from harness.figures.labels import short_labels
from harness.figures.style import words_of
from harness.records.search import Axis

ABSENT = "–"


@dataclass(frozen=True)
class Grid:
    """A plain table of text: a caption, headers, rows; the first cell of a row is its header."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def differing(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Dotted key -> arm -> value, for the settings that are not the same in all arms; arms without one are left out."""
    flat = {arm: flatten(config) for arm, config in configs.items()}
    keys = list(dict.fromkeys(key for settings in flat.values() for key in settings))
    found = {}
    for key in keys:
        values = {arm: settings[key] for arm, settings in flat.items() if key in settings}
        if len(values) < len(flat) or any(value != next(iter(values.values())) for value in values.values()):
            found[key] = values
    return found


def arms_grid(configs: Mapping[str, Mapping[str, Any]]) -> Grid | None:
    """What sets the arms apart; None where nothing does (one arm)."""
    kept = {key: values for key, values in differing(configs).items() if key != "adapter" and _says_more(key, values)}
    if not kept:
        return None
    labels = short_labels(list(kept))
    rows = tuple(
        (words_of(arm), *(_class_name(key, values[arm]) if arm in values else ABSENT for key, values in kept.items()))
        for arm in configs
    )
    return Grid("What differs between the arms", ("arm", *labels.values()), rows)


def _says_more(key: str, values: Mapping[str, Any]) -> bool:
    """Whether a setting differs among the arms that have it, or is what the arms are told by."""
    distinct = {repr(value) for value in values.values()}
    return len(distinct) > 1 or key.endswith("adapter_strategy._target_")


def _class_name(key: str, value: Any) -> str:
    return str(value).rsplit(".", 1)[-1] if key.endswith("_target_") else show(value)


def axis_text(axis: Axis) -> tuple[str, str]:
    """A searched setting's scale and range, in words."""
    if axis.kind == "categorical":
        return "choice", ", ".join(show(choice) for choice in axis.choices)
    ends = f"{show(axis.low)} to {show(axis.high)}"
    return {"linear": ("linear", ends), "log": ("logarithmic", ends),
            "zero_or_log": ("0, or logarithmic", f"0, {ends}")}[axis.kind]  # fmt: skip


def space_grid(axes: Mapping[str, Sequence[Axis]]) -> Grid:
    """The search spaces: a row a setting and range, with the arms that search it."""
    arms_of: dict[Axis, list[str]] = {}
    for arm, searched in axes.items():
        for axis in searched:
            arms_of.setdefault(axis, []).append(arm)
    rows = tuple((axis.key, *axis_text(axis), ", ".join(map(words_of, arms))) for axis, arms in arms_of.items())
    return Grid("Search space", ("setting", "scale", "range", "arms"), rows)


def winners_grid(frozen: Mapping[str, Any], metric: str, metric_name: str) -> Grid:
    """The tuned hyperparameters: a row a winner, with the rule that chose it and its validation score.

    Args:
        metric: the key of the score that the search optimised.
        metric_name: the same in words.
    """
    chosen: list[tuple[str, str, Mapping[str, Any]]] = []
    for arm, about in frozen["arms"].items():
        by_trial: dict[int, tuple[list[str], Mapping[str, Any]]] = {}
        for rule, winner in about["winners"].items():
            by_trial.setdefault(winner["trial"], ([], winner))[0].append(rule)
        chosen += [(arm, ", ".join(rules), winner) for rules, winner in by_trial.values()]
    keys = list(dict.fromkeys(key for _, _, winner in chosen for key in winner["params"]))
    labels = short_labels(keys)
    rows = tuple(
        (
            words_of(arm),
            words_of(rules),
            str(winner["trial"]),
            *(show(winner["params"][key]) if key in winner["params"] else ABSENT for key in keys),
            f"{winner['validation'][metric]:.4f}",
            str(winner["seeds"]),
            "yes" if winner["feasible"] else "no",
        )
        for arm, rules, winner in chosen
    )
    headers = ("arm", "rule", "trial", *labels.values(), metric_name, "seeds", "meets constraints")
    return Grid("Tuned hyperparameters", headers, rows)
