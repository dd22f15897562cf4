"""A design written out as arms: leave one out, add one at a time, factorial. Loads no torch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.design_settings import AddOne, Design, Factorial, LeaveOneOut, Level
from harness.errors import UserError, must_be_in
from harness.setting_trees import set_dotted, unshared

_DESIGN: TypeAdapter[Design] = TypeAdapter(Design)


@dataclass(frozen=True)
class DesignArm:
    """An arm of a design: its dotted settings, and where it stands in the design (component -> on; factor -> level)."""

    name: str
    settings: Mapping[str, Any]
    position: Mapping[str, Level]


def design_arms(design: Design) -> tuple[DesignArm, ...]:
    """The arms of a design, in the order of its table's rows."""
    if isinstance(design, Factorial):
        return _factorial(design)
    return _leave_one_out(design) if isinstance(design, LeaveOneOut) else _add_one(design)


def _factorial(design: Factorial) -> tuple[DesignArm, ...]:
    arms = []
    for levels in itertools.product(*(factor.levels for factor in design.factors.values())):
        position = dict(zip(design.factors, levels, strict=True))
        name = ", ".join(f"{factor}={level_text(level)}" for factor, level in position.items())
        settings = {design.factors[factor].key: level for factor, level in position.items()}
        arms.append(DesignArm(name, settings, position))
    return tuple(arms)


def _leave_one_out(design: LeaveOneOut) -> tuple[DesignArm, ...]:
    everything = tuple(design.components)
    arms = [_switched(design, "full", everything)]
    for left_out in everything:
        arms.append(_switched(design, f"full - {left_out}", tuple(c for c in everything if c != left_out)))
    return tuple(arms)


def _add_one(design: AddOne) -> tuple[DesignArm, ...]:
    arms, name = [_switched(design, "base", ())], "base"
    components = tuple(design.components)
    for number, added in enumerate(components):
        name = f"{name if design.cumulative else 'base'} + {added}"
        arms.append(_switched(design, name, components[: number + 1] if design.cumulative else (added,)))
    return tuple(arms)


def _switched(design: LeaveOneOut | AddOne, name: str, on: tuple[str, ...]) -> DesignArm:
    settings: dict[str, Any] = {}
    for component in on:
        settings |= design.components[component]
    return DesignArm(name, settings, {component: component in on for component in design.components})


def level_text(level: Level) -> str:
    """A level in an arm's name: `0.5`, `true`, `cosine`, `none`."""
    if level is None:
        return "none"
    if isinstance(level, bool):
        return "true" if level else "false"
    return f"{level:g}" if isinstance(level, (int, float)) else level


def expand_design(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A raw experiment with its design's arms written out, after its own arms; unchanged without a design.

    Raises:
        UserError: the design starts from an unknown arm, or makes an arm that the file has already. A design that is
            wrong in itself is left as it is: the validation of the whole file says what is wrong.
    """
    expanded: dict[str, Any] = unshared(dict(content))
    if expanded.get("design") is None:
        return expanded
    try:
        design = _DESIGN.validate_python(expanded["design"])
    except ValidationError:
        return expanded
    arms = expanded.get("arms")
    if arms is None:
        arms = expanded["arms"] = {}
    if not isinstance(arms, dict):
        return expanded
    if design.arm is not None:
        must_be_in(design.arm, list(arms), f"{where}: design.arm: no arm {design.arm!r}")
    below = arms[design.arm] if design.arm is not None else {}
    for arm in design_arms(design):
        if arm.name in arms:
            raise UserError(f"{where}: design: it makes an arm {arm.name!r}, but arms has one already")
        tree: dict[str, Any] = unshared(below) if isinstance(below, dict) else {}
        for key, value in arm.settings.items():
            set_dotted(tree, key, unshared(value), f"{where}: design, arm {arm.name}")
        arms[arm.name] = tree
    return expanded


def describe_design(design: Design) -> dict[str, Any]:
    """What a table needs to know of a design, for the manifest: its type, factors, and where each arm stands."""
    arms = {arm.name: dict(arm.position) for arm in design_arms(design)}
    if isinstance(design, Factorial):
        factors: dict[str, Any] = {name: list(factor.levels) for name, factor in design.factors.items()}
    else:
        factors = {name: [False, True] for name in design.components}
    return {"type": design.type, "factors": factors, "arms": arms}
