"""The `design:` of an experiment file: a few lines that stand for many arms. Loads no torch.

`designs.py` writes the arms out.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, field_validator, model_validator

from harness.settings import PlainSettings, Settings

Level = float | int | str | bool | None
MAX_ARMS = 1000


class _Components(Settings):
    """Base of the designs that switch components: component -> the dotted settings that switch it on.

    `arm`: the arm that has none of them (the experiment's base by default).
    """

    arm: str | None = None
    components: dict[str, PlainSettings] = Field(min_length=2)

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


class AddOne(_Components):
    """`base` has no component; `base + NAME` one; with `cumulative` each arm keeps those of the arms before it."""

    type: Literal["add_one"]
    cumulative: bool = False


class Factor(Settings):
    """A setting and its levels; the first one is the level that the others are compared with."""

    key: str
    levels: tuple[Level, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _levels_differ(self) -> Factor:
        written = [json.dumps(level) for level in self.levels]
        if len(set(written)) != len(written) or len(set(self.levels)) != len(written):
            raise ValueError(f"levels: {list(self.levels)} names a level twice")
        return self


class Factorial(Settings):
    """Every combination of the factors' levels: `p=0.5, lambda=0`."""

    type: Literal["factorial"]
    arm: str | None = None
    factors: dict[str, Factor] = Field(min_length=2)

    @model_validator(mode="after")
    def _is_not_huge(self) -> Factorial:
        num_arms = math.prod(len(factor.levels) for factor in self.factors.values())
        if num_arms > MAX_ARMS:
            raise ValueError(f"factors: {num_arms} combinations are more than {MAX_ARMS}")
        keys = [factor.key for factor in self.factors.values()]
        if len(set(keys)) != len(keys):
            raise ValueError(f"factors: {keys} names a setting twice")
        return self


Design = Annotated[LeaveOneOut | AddOne | Factorial, Discriminator("type")]
