"""The `design:` of an experiment file: a few lines that stand for many arms, and the arms written out."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, TypeAdapter, ValidationError, field_validator, model_validator

from harness.config.base import PlainSettings, Settings
from harness.config.trees import set_dotted, unshared
from harness.errors import UserError, must_be_in

Level = float | int | str | bool | None
MAX_ARMS = 1000


class _Components(Settings):
    """Base of the designs that switch components on and off."""

    arm: str | None = None
    """The arm that has none of the components; the experiment's base by default."""
    components: dict[str, PlainSettings] = Field(min_length=2)
    """Each component's name, and the dotted settings that switch it on."""

    @field_validator("components")
    @classmethod
    def _components_set_something(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, settings in value.items():
            if not settings:
                raise ValueError(f"component {name!r} sets nothing, so it cannot be left out")
        return value


class LeaveOneOut(_Components):
    """`full` has every component; `full - NAME` all but one."""

    type: Literal["leave_one_out"]
    """An arm with all components, and one without each of them."""


class AddOne(_Components):
    """`base` has no component, `base + NAME` has one."""

    type: Literal["add_one"]
    """An arm with no component, and one with each of them."""
    cumulative: bool = False
    """Whether each arm keeps the components of the arms before it."""


class Factor(Settings):
    """A setting and its levels."""

    key: str
    """The dotted setting, as `adapter.dim`."""
    levels: tuple[Level, ...] = Field(min_length=2)
    """The values that the setting takes; the others are compared with the first one."""

    @model_validator(mode="after")
    def _levels_differ(self) -> Factor:
        written = [json.dumps(level) for level in self.levels]
        if len(set(written)) != len(written) or len(set(self.levels)) != len(written):
            raise ValueError(f"levels: {list(self.levels)} names a level twice")
        return self


class Factorial(Settings):
    """Every combination of the factors' levels: `p=0.5, lambda=0`."""

    type: Literal["factorial"]
    """Every combination of the factors' levels."""
    arm: str | None = None
    """The arm whose settings all combinations start from; the experiment's base by default."""
    factors: dict[str, Factor] = Field(min_length=2)
    """Each factor's name, as it is printed, and its setting and levels."""

    @model_validator(mode="after")
    def _is_not_huge(self) -> Factorial:
        num_arms = math.prod(len(factor.levels) for factor in self.factors.values())
        if num_arms > MAX_ARMS:
            raise ValueError(f"factors: they make {num_arms} arms, but at most {MAX_ARMS} are allowed")
        keys = [factor.key for factor in self.factors.values()]
        if len(set(keys)) != len(keys):
            raise ValueError(f"factors: {keys} names a setting twice")
        return self


class ForEach(Settings):
    """The same arms for each target, size ...: `adapter, tweets, 100`, with `{target}` and `{size}` filled in."""

    type: Literal["for_each"]
    """The same arms for every combination of some values, as for each target and each number of examples."""
    over: dict[str, tuple[Level, ...]] = Field(min_length=1)
    """What the arms are repeated over, and its values. `{NAME}` in an arm, in a key too, stands for the value."""
    arms: dict[str, PlainSettings] = Field(min_length=1)
    """Each arm's name, without the values, and its settings. A table with one of `over` in its rows or columns shows
    the arms under these names."""

    @model_validator(mode="after")
    def _is_plain(self) -> ForEach:
        for name, levels in self.over.items():
            if name in (METHOD, "arm", "experiment"):
                raise ValueError(f"over: {name!r} means something else in a table; give another name")
            if not levels or len({level_text(level) for level in levels}) != len(levels):
                raise ValueError(f"over.{name}: {list(levels)} has no value, or one twice")
        num_arms = math.prod(len(levels) for levels in self.over.values()) * len(self.arms)
        if num_arms > MAX_ARMS:
            raise ValueError(f"over: it makes {num_arms} arms, but at most {MAX_ARMS} are allowed")
        return self


METHOD = "method"  # where an arm of a `for_each` stands among the design's arms

Design = Annotated[LeaveOneOut | AddOne | Factorial | ForEach, Discriminator("type")]


_DESIGN: TypeAdapter[Design] = TypeAdapter(Design)


@dataclass(frozen=True)
class DesignArm:
    """An arm of a design: its dotted settings, and where it stands in the design (component -> on; factor -> level).

    Of a `for_each`: its settings as they stand in the file, and its name there (`method`) with the values of `over`.
    """

    name: str
    settings: Mapping[str, Any]
    position: Mapping[str, Level]


def design_arms(design: Design) -> tuple[DesignArm, ...]:
    """The arms of a design, in the order of its table's rows."""
    if isinstance(design, Factorial):
        return _factorial(design)
    if isinstance(design, ForEach):
        return _for_each(design)
    return _leave_one_out(design) if isinstance(design, LeaveOneOut) else _add_one(design)


def _factorial(design: Factorial) -> tuple[DesignArm, ...]:
    arms = []
    for levels in itertools.product(*(factor.levels for factor in design.factors.values())):
        position = dict(zip(design.factors, levels, strict=True))
        name = ", ".join(f"{factor}={level_text(level)}" for factor, level in position.items())
        settings = {design.factors[factor].key: level for factor, level in position.items()}
        arms.append(DesignArm(name, settings, position))
    return tuple(arms)


def _for_each(design: ForEach) -> tuple[DesignArm, ...]:
    arms = []
    for levels in itertools.product(*design.over.values()):
        filled = dict(zip(design.over, levels, strict=True))
        for method, settings in design.arms.items():
            name = ", ".join([method, *map(level_text, levels)])
            arms.append(DesignArm(name, _fill_in(settings, filled, f"arms.{method}"), {METHOD: method, **filled}))
    return tuple(arms)


def _fill_in(tree: Any, values: Mapping[str, Level], where: str) -> Any:
    """A copy of a tree in which `{NAME}` is the value of that name; a text that is nothing else becomes the value.

    Raises:
        UserError: a name in braces has no value.
    """
    if isinstance(tree, dict):
        # A key that is filled in may be there already (`{target}` among all domains): the later one counts.
        return {
            str(_fill_in(key, values, where)): _fill_in(item, values, f"{where}.{key}") for key, item in tree.items()
        }
    if isinstance(tree, list):
        return [_fill_in(item, values, where) for item in tree]
    if not isinstance(tree, str):
        return tree
    for name in _IN_BRACES.findall(tree):
        must_be_in(name, values, f"design.{where}: {{{name}}} is not among `over`")
    whole = _IN_BRACES.fullmatch(tree)
    return values[whole[1]] if whole else _IN_BRACES.sub(lambda found: level_text(values[found[1]]), tree)


_IN_BRACES = re.compile(r"\{(\w+)\}")


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


def methods_of(design: Design | None) -> tuple[str, ...]:
    """The names under which a table shows arms that are repeated: those of a `for_each`, without its values."""
    return tuple(design.arms) if isinstance(design, ForEach) else ()


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
    start = None if isinstance(design, ForEach) else design.arm
    if start is not None:
        must_be_in(start, list(arms), f"{where}: design.arm: no arm {start!r}")
    below = arms[start] if start is not None else {}
    for arm in design_arms(design):
        if arm.name in arms:
            raise UserError(f"{where}: design: it makes an arm {arm.name!r}, but `arms` has one of this name already")
        tree: dict[str, Any] = unshared(below) if isinstance(below, dict) else {}
        if isinstance(design, ForEach):  # settings as an arm of the file has them, and not dotted ones
            arms[arm.name] = arm.settings
            continue
        for key, value in arm.settings.items():
            set_dotted(tree, key, unshared(value), f"{where}: design, arm {arm.name}")
        arms[arm.name] = tree
    return expanded


def describe_design(design: Design) -> dict[str, Any]:
    """What the manifest keeps of a design, for tables: its type, its factors, and the position of each arm."""
    arms = {arm.name: dict(arm.position) for arm in design_arms(design)}
    if isinstance(design, Factorial):
        factors: dict[str, Any] = {name: list(factor.levels) for name, factor in design.factors.items()}
    elif isinstance(design, ForEach):
        factors = {METHOD: list(design.arms), **{name: list(levels) for name, levels in design.over.items()}}
    else:
        factors = {name: [False, True] for name in design.components}
    return {"type": design.type, "factors": factors, "arms": arms}
